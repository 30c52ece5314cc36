"""`SpeakerModel`: infers a speaker's voice together with the emotions of the clips, from a model's own probabilities.

A voice, a room or a microphone shifts all predictions of a model: one speaker's neutral clips look angry. With a
speaker's clips, but not their emotions, both are inferred at once. The log-probabilities of a clip, centered over the
classes, are one vector `z (C,)`:

    z = mean of the emotion + offset of the speaker + noise,   offset ~ N(0, between),   noise ~ N(0, within)

a two-covariance model (Brummer and de Villiers 2010, "The speaker partitioning problem"), whose parameters come from
clips of speakers that the model was not trained on. Three hypotheses are worked out by expectation maximization:

- *alone*: the clips have nothing in common, so each is judged by itself;
- *balanced*: the speaker's clips are of all emotions equally. Right for acted corpora, where it gains most; if all
  clips are of one emotion, it mistakes that emotion for the voice;
- *one emotion*: most clips are of one emotion, and any may be that one.

Which of them fits is seen from the clips: how far they scatter, how sure the predictions are, how likely each
hypothesis makes them, how many there are. A small gate learns their weights from groups of clips of known speakers:
mixed, mostly one emotion, and one emotion only.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

MIN_SPEAKERS = 4  # fewer have no measurable variance
STEPS = 24  # of expectation maximization when the parameters are fitted
ROUNDS = 12  # of expectation maximization for the clips of a speaker
FLOOR = 0.05  # of the mean variance, added to both covariances
PEAK = 0.8  # share of the one emotion under the hypothesis of one emotion
GATE_DECAY = 1e-2
GROUP_SIZES = (2, 3, 5, 10, 20, 40)
GROUPS = 150  # of each size and mixture, at most
MIXTURES = ("any", "mostly one", "one")
FEATURES = 21
_TINY = 1e-9


@dataclass(frozen=True)
class SpeakerModel:
    """The parameters, all float32; C classes, F features of the gate.

    Attributes:
        mean: `(C, C)`: row y is the mean of the clips of emotion y.
        within: `(C, C)`: covariance of the noise.
        between: `(C, C)`: covariance of the speakers' offsets.
        gate: `(F, 3)`: weights of the three hypotheses.
        gate_center: `(F,)`: subtracted from the gate's features.
        gate_scale: `(F,)`: divides them.

    >>> random = np.random.default_rng(0)
    >>> speakers, emotions = np.repeat(np.arange(8), 30), np.tile(np.arange(3), 80)
    >>> logits = 3 * np.eye(3)[emotions] + 2 * random.standard_normal((8, 3))[speakers]
    >>> logits += random.standard_normal(logits.shape)
    >>> log_probabilities = torch.from_numpy(logits).log_softmax(1)
    >>> model = SpeakerModel.fit(log_probabilities, emotions, [f"s{s}" for s in speakers])
    >>> own = speakers == 0
    >>> right = (model.infer(log_probabilities[own]).argmax(1).numpy() == emotions[own]).mean()
    >>> bool(right > (log_probabilities[own].argmax(1).numpy() == emotions[own]).mean())
    True
    """

    mean: Tensor
    within: Tensor
    between: Tensor
    gate: Tensor
    gate_center: Tensor
    gate_scale: Tensor

    @classmethod
    def fit(
        cls,
        log_probabilities: Tensor,
        targets: np.ndarray,
        speaker_ids: Sequence[str],
        corpora: Sequence[str] | None = None,
        seed: int = 0,
    ) -> "SpeakerModel | None":
        """Fits the parameters to clips of speakers whom the model does not know.

        Every class of every corpus weighs the same, and so does every corpus among the speakers.

        Args:
            log_probabilities: `(n, C)`, of the model.
            targets: `(n,)` class indices.
            speaker_ids: the n speakers.
            corpora: the n corpora; None if all clips are of one.
            seed: of the groups that the gate learns from.

        Returns:
            None if there are fewer than `MIN_SPEAKERS` speakers or a class has no clip.
        """
        classes = log_probabilities.shape[1]
        names, speakers = np.unique(np.asarray(speaker_ids), return_inverse=True)
        corpus = np.unique(np.asarray(corpora if corpora is not None else [""] * len(targets)), return_inverse=True)[1]
        if len(names) < MIN_SPEAKERS or len(np.unique(targets)) < classes:
            return None
        z = centered(log_probabilities)
        mean, within, between = _fit_gaussians(z, targets, speakers, corpus)
        blank = torch.zeros(FEATURES, 3), torch.zeros(FEATURES), torch.ones(FEATURES)
        gaussians = cls(mean.float(), within.float(), between.float(), *blank)
        return gaussians._with_gate(z, targets, speakers, corpus, seed)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "SpeakerModel | None":
        """The model that `tensors` returned; None without tensors."""
        return cls(**tensors) if tensors else None

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, for a checkpoint."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def shapes(cls, classes: int) -> dict[str, tuple[int, ...]]:
        """The shapes of `tensors`, for a checkpoint's check."""
        square = (classes, classes)
        gate = {"gate": (FEATURES, 3), "gate_center": (FEATURES,), "gate_scale": (FEATURES,)}
        return {"mean": square, "within": square, "between": square, **gate}

    def infer(self, log_probabilities: Tensor) -> Tensor:
        """Log-probabilities `(n, C)` of the n clips of one speaker, each in the light of the others.

        A single clip keeps its own.
        """
        if len(log_probabilities) < 2:
            return log_probabilities.log_softmax(-1)
        z = centered(log_probabilities)[None].float()
        plain = log_probabilities.float().softmax(-1)[None]
        adjusted = self._mixed(z, plain, torch.ones(z.shape[-1], dtype=torch.bool, device=z.device))
        return adjusted[0].clamp(min=_TINY).log().log_softmax(-1)

    def to(self, device: torch.device) -> "SpeakerModel":
        """The same model on a device."""
        return SpeakerModel(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def _mixed(self, z: Tensor, plain: Tensor, possible: Tensor) -> Tensor:
        hypotheses, features = self._hypotheses(z, plain, possible)
        weights = (((features - self.gate_center) / self.gate_scale) @ self.gate).softmax(-1)
        return (weights[:, None, :, None] * hypotheses).sum(2)

    def _hypotheses(self, z: Tensor, plain: Tensor, possible: Tensor) -> tuple[Tensor, Tensor]:
        """What each hypothesis says of groups of n clips, and the features of the groups for the gate.

        Args:
            z: `(G, n, C)`, centered log-probabilities of G groups.
            plain: `(G, n, C)`, the model's own probabilities.
            possible: `(C,)` bool, the emotions that the clips may be of.

        Returns:
            `(G, n, 3, C)` probabilities and `(G, F)` features.
        """
        groups, n, classes = z.shape
        emotions = possible.nonzero()[:, 0]
        count = len(emotions)
        precision, prior = torch.linalg.inv(self.within), torch.linalg.inv(self.between)
        uncertainty = torch.linalg.inv(prior + n * precision)  # covariance of the offset, given n clips

        shares = torch.zeros(1 + count, classes, device=z.device)  # of the emotions, by hypothesis
        shares[:, emotions] = (1 - PEAK) / count
        shares[0, emotions] = 1 / count
        shares[torch.arange(1, 1 + count, device=z.device), emotions] += PEAK
        log_shares = shares.clamp(min=1e-30).log().masked_fill(~possible, -math.inf)[None, :, None]
        start = z.mean(1)[:, None] - shares @ self.mean
        offset = n * start @ precision @ uncertainty  # (G, H, C)
        offset[:, 0] = 0.0

        def fit_of(offset: Tensor, precision: Tensor) -> Tensor:
            distance = z[:, None, :, None] - self.mean - offset[:, :, None, None]
            return -0.5 * ((distance @ precision) * distance).sum(-1)  # (G, H, n, C)

        for _ in range(ROUNDS):
            emotion = (fit_of(offset, precision) + log_shares).softmax(-1)
            residual = (z[:, None] - emotion @ self.mean).sum(2)
            offset = residual @ precision @ uncertainty
        evidence = (fit_of(offset, precision) + log_shares).logsumexp(-1).sum(2)
        evidence = evidence - 0.5 * ((offset @ prior) * offset).sum(-1)  # (G, H)
        predictive = torch.linalg.inv(self.within + uncertainty)
        each = fit_of(offset, predictive).masked_fill(~possible, -math.inf).softmax(-1)
        share_of = evidence[:, 1:].softmax(1)
        one = (share_of[:, :, None, None] * each[:, 1:]).sum(1)
        alone = plain * possible / (plain * possible).sum(-1, keepdim=True).clamp(min=_TINY)

        spread = z - z.mean(1, keepdim=True)
        scatter = ((spread @ precision) * spread).sum((1, 2)) / (max(n - 1, 1) * classes)
        gain = evidence[:, 0] - evidence[:, 1:].logsumexp(1) + math.log(count)
        size = ((offset[:, 0] @ prior) * offset[:, 0]).sum(-1) / classes
        features = [
            scatter.clamp(max=5),
            _entropy(alone.mean(1), count),
            _entropy(alone, count).mean(1),
            gain.clamp(-20, 20) / 5,
            gain / n,
            size.clamp(max=5),
            _entropy(each[:, 0].mean(1), count),
            _entropy(each[:, 0], count).mean(1),
            share_of.amax(1),
        ]
        described = torch.stack(features, 1)
        log_n = torch.full((groups, 1), math.log(n), device=z.device)
        constant = torch.ones(groups, 1, device=z.device)
        hypotheses = torch.stack([alone, each[:, 0], one], dim=2).clamp(min=_TINY)
        return hypotheses, torch.cat([constant, log_n, log_n.square(), described, log_n * described], 1)

    def _with_gate(
        self, z: Tensor, targets: np.ndarray, speakers: np.ndarray, corpus: np.ndarray, seed: int
    ) -> "SpeakerModel":
        """This model with a gate that is fitted on groups of clips of one speaker each."""
        random = np.random.default_rng(seed)
        z = z.float()
        plain = z.softmax(-1)
        examples: list[tuple[Tensor, Tensor]] = []  # features (G, F), probability of the truth (G, n, 3)
        for name in np.unique(corpus):
            clips = np.flatnonzero(corpus == name)
            possible = torch.zeros(z.shape[1], dtype=torch.bool)
            possible[np.unique(targets[clips])] = True
            for size in GROUP_SIZES:
                for mixture in MIXTURES:
                    groups = _groups(clips, targets, speakers, size, mixture, random)
                    if groups is None:
                        continue
                    hypotheses, features = self._hypotheses(z[groups], plain[groups], possible)
                    truth = torch.from_numpy(targets[groups])[:, :, None, None].expand(-1, -1, 3, 1)
                    examples.append((features, hypotheses.gather(3, truth)[..., 0]))
        if not examples:
            gate = torch.zeros(FEATURES, 3)
            gate[0, 0] = 20.0  # no group to learn from: each clip alone
            return SpeakerModel(self.mean, self.within, self.between, gate, self.gate_center, self.gate_scale)
        described = torch.cat([features for features, _ in examples])
        center, scale = described.mean(0), described.std(0, correction=0) + 1e-6
        center[0], scale[0] = 0.0, 1.0
        gate = torch.zeros(FEATURES, 3, requires_grad=True)
        optimizer = torch.optim.LBFGS([gate], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            total = GATE_DECAY * gate.square().sum()
            for features, truth in examples:
                log_weights = (((features - center) / scale) @ gate).log_softmax(-1)
                total = total - (log_weights[:, None] + truth.log()).logsumexp(-1).mean() / len(examples)
            total.backward()
            return total

        optimizer.step(loss)  # type: ignore[arg-type]
        return SpeakerModel(self.mean, self.within, self.between, gate.detach(), center, scale)


def centered(log_probabilities: Tensor) -> Tensor:
    """Log-probabilities `(..., C)` less their mean over the classes: what is left if a constant does not count."""
    logs = log_probabilities.log_softmax(-1)
    return logs - logs.mean(-1, keepdim=True)


def _fit_gaussians(
    z: Tensor, targets: np.ndarray, speakers: np.ndarray, corpus: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of each class, covariance within and between speakers, by expectation maximization in float64."""
    z = z.double().cpu()
    classes, count = z.shape[1], int(speakers.max()) + 1
    pairs = corpus * classes + targets
    clip_weight = torch.from_numpy(1.0 / np.bincount(pairs)[pairs])
    clip_weight /= clip_weight.sum()
    corpus_of = np.zeros(count, np.int64)
    corpus_of[speakers] = corpus
    speaker_weight = torch.from_numpy(1.0 / np.bincount(corpus_of)[corpus_of])
    speaker_weight /= speaker_weight.sum()
    target, speaker = torch.from_numpy(targets), torch.from_numpy(speakers)
    number = torch.bincount(speaker).double()[:, None, None]

    identity = torch.eye(classes, dtype=torch.float64)
    within, between = z.var() * identity, z.var() * identity
    offset = torch.zeros(count, classes, dtype=torch.float64)
    mean = torch.zeros(classes, classes, dtype=torch.float64)
    for _ in range(STEPS):
        weighted = clip_weight[:, None] * (z - offset[speaker])
        mass = torch.zeros(classes, dtype=torch.float64).index_add_(0, target, clip_weight)
        mean = torch.zeros_like(mean).index_add_(0, target, weighted) / mass[:, None]
        residual = z - mean[target]
        sums = torch.zeros_like(offset).index_add_(0, speaker, residual)
        precision = torch.linalg.inv(within)
        covariance = torch.linalg.inv(torch.linalg.inv(between) + number * precision)
        offset = torch.einsum("sij,jk,sk->si", covariance, precision, sums)
        offset = offset - (speaker_weight[:, None] * offset).sum(0)
        outer = offset[:, :, None] * offset[:, None]
        between = torch.einsum("s,sij->ij", speaker_weight, outer + covariance)
        rest = residual - offset[speaker]
        within = torch.einsum("n,ni,nj->ij", clip_weight, rest, rest)
        within = within + torch.einsum("n,nij->ij", clip_weight, covariance[speaker])
        within, between = (m + FLOOR * m.diagonal().mean() * identity for m in (within, between))
    return mean, within, between


def _groups(
    clips: np.ndarray, targets: np.ndarray, speakers: np.ndarray, size: int, mixture: str, random: np.random.Generator
) -> np.ndarray | None:
    """Groups `(G, size)` of clips of one speaker each; None if no speaker has enough clips for one."""
    groups = []
    names = np.unique(speakers[clips])
    per_speaker = max(4, min(60, 240 // len(names)))
    for name in names:
        own = clips[speakers[clips] == name]
        emotions = np.unique(targets[own])
        for i in range(per_speaker):
            if mixture == "any":
                if len(own) >= size:
                    groups.append(random.choice(own, size, replace=False))
                continue
            chosen = targets[own] == emotions[i % len(emotions)]
            main = size if mixture == "one" else round(0.7 * size)
            if chosen.sum() >= main and (~chosen).sum() >= size - main:
                first = random.choice(own[chosen], main, replace=False)
                rest = random.choice(own[~chosen], size - main, replace=False)
                groups.append(np.concatenate([first, rest]))
    if not groups:
        return None
    return np.stack(groups)[random.permutation(len(groups))[:GROUPS]]


def _entropy(probabilities: Tensor, classes: int) -> Tensor:
    """Entropy over the last axis, from 0 to 1 for `classes` possible ones."""
    entropy = -(probabilities * probabilities.clamp(min=_TINY).log()).sum(-1)
    return entropy / math.log(max(2, classes))
