"""`SpeakerModel`: infers a speaker's voice together with the emotions of the clips, from a model's own probabilities.

A voice, a room or a microphone shifts all predictions of a model: one speaker's neutral clips look angry. With a
speaker's clips, but not their emotions, both are inferred at once. The log-probabilities of a clip, centered over the
classes, are one vector `z (C,)`:

    z = mean of the emotion + offset of the speaker + noise,   offset ~ N(0, between),   noise ~ N(0, within)

a two-covariance model (Brummer and de Villiers 2010, "The speaker partitioning problem"), whose parameters come from
clips of speakers that the model was not trained on. Four hypotheses are worked out by expectation maximization:

- *alone*: the clips have nothing in common, so each is judged by itself;
- *balanced*: the speaker's clips are of all emotions equally. Right for acted corpora, where it gains most; if all
  clips are of one emotion, it mistakes that emotion for the voice;
- *mostly one* and *one emotion*: most or all clips are of one emotion, and any may be that one.

Which of them fits is seen from the clips: how far they scatter, how sure the predictions are, how likely each
hypothesis makes them, how many there are. A small gate learns their weights from groups of clips of known speakers:
mixed, mostly one emotion, and one emotion only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from serx.errors import CheckpointError

MIN_SPEAKERS = 4  # fewer have no measurable variance
STEPS = 24  # of expectation maximization when the parameters are fitted
ROUNDS = 12  # of expectation maximization for the clips of a speaker
FLOOR = 0.05  # of the mean variance, added to both covariances
PEAKS = (0.7, 0.98)  # share of the main emotion under the hypotheses of mostly one and of one
HYPOTHESES = 2 + len(PEAKS)
GATE_DECAY = 1e-2
GROUP_SIZES = (2, 3, 5, 10, 20, 40)
GROUPS = 150  # of each size and mixture, at most
MIXTURES = {"any": 1.0, "mostly one": 1.0, "one": 1.5}  # and their weights: to lose nothing is worth more than to gain
FEATURES = 27
_TINY = 1e-9


class _Voice(NamedTuple):
    """What groups of clips say of their speakers, under each of H hypotheses.

    Attributes:
        offset: `(G, H, C)`.
        evidence: `(G, H)`, log-likelihood of the clips.
        precision: `(C, C)`, of a clip of the speaker, with the offset's uncertainty.
        log_shares: `(1, H, 1, C)`, logarithms of the shares of the emotions.
    """

    offset: Tensor
    evidence: Tensor
    precision: Tensor
    log_shares: Tensor


@dataclass(frozen=True)
class SpeakerModel:
    """The parameters, all float32; C classes, F features of the gate.

    Attributes:
        mean: `(C, C)`: row y is the mean of the clips of emotion y.
        within: `(C, C)`: covariance of the noise.
        between: `(C, C)`: covariance of the speakers' offsets.
        gate: `(F, 4)`: weights of the four hypotheses.
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
        blank = torch.zeros(FEATURES, HYPOTHESES), torch.zeros(FEATURES), torch.ones(FEATURES)
        within, between = (((m + m.T) / 2).float() for m in (within, between))
        gaussians = cls(mean.float(), within, between, *blank)
        return gaussians._with_gate(z, targets, speakers, corpus, seed)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "SpeakerModel | None":
        """The model that `tensors` returned; None without tensors.

        Raises:
            CheckpointError: a tensor is missing, or its shape, type or values are not those of such a model.
        """
        if not tensors:
            return None
        expected = cls._shapes(len(tensors.get("mean", ())))
        for name in expected.keys() | tensors.keys():
            tensor = tensors.get(name)
            if tensor is None or expected.get(name) != tuple(tensor.shape) or tensor.dtype != torch.float32:
                raise CheckpointError(f"checkpoint: speaker.{name} is missing, or its shape or type is wrong")
        for name in ("within", "between"):
            if not torch.equal(tensors[name], tensors[name].T) or torch.linalg.cholesky_ex(tensors[name]).info:
                raise CheckpointError(f"checkpoint: speaker.{name} is not symmetric and positive definite")
        if (tensors["gate_scale"] <= 0).any():
            raise CheckpointError("checkpoint: speaker.gate_scale is not positive, and training never makes it so")
        return cls(**tensors)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, for a checkpoint."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @staticmethod
    def _shapes(classes: int) -> dict[str, tuple[int, ...]]:
        square = (classes, classes)
        gate = {"gate": (FEATURES, HYPOTHESES), "gate_center": (FEATURES,), "gate_scale": (FEATURES,)}
        return {"mean": square, "within": square, "between": square, **gate}

    def infer(self, log_probabilities: Tensor) -> Tensor:
        """Log-probabilities `(n, C)` of the n clips of one speaker, each in the light of the others."""
        return self.speaker(log_probabilities)(log_probabilities)

    def speaker(self, log_probabilities: Tensor) -> Callable[[Tensor], Tensor]:
        """What `log_probabilities (n, C)` of n clips say about their speaker.

        Returns:
            A function from log-probabilities `(B, C)` of clips of this speaker, these or others, to adjusted ones. Of a
            single clip nothing can be said, and nothing is adjusted.
        """
        if len(log_probabilities) < 2:
            return lambda others: others.log_softmax(-1)
        z = centered(log_probabilities)[None].float()
        possible = torch.ones(z.shape[-1], dtype=torch.bool, device=z.device)
        voice = self._voice(z, possible)
        plain = z.softmax(-1)
        hypotheses = self._hypotheses(z, plain, possible, voice)
        weights = self._weights(self._features(z, plain, possible, voice, hypotheses))

        def adjust(others: Tensor) -> Tensor:
            z = centered(others)[None].float()
            hypotheses = self._hypotheses(z, z.softmax(-1), possible, voice)
            return (weights[:, None, :, None] * hypotheses).sum(2)[0].log().log_softmax(-1)

        return adjust

    def to(self, device: torch.device) -> "SpeakerModel":
        """The same model on a device."""
        return SpeakerModel(**{name: tensor.to(device) for name, tensor in self.tensors().items()})

    def _weights(self, features: Tensor) -> Tensor:
        """The weights `(G, 4)` of the hypotheses, by the gate."""
        return (((features - self.gate_center) / self.gate_scale) @ self.gate).softmax(-1)

    def _voice(self, z: Tensor, possible: Tensor) -> _Voice:
        """What groups of n clips say of their speakers: balanced, then for each peak each emotion as the main one.

        Args:
            z: `(G, n, C)`, centered log-probabilities of G groups.
            possible: `(C,)` bool, the emotions that the clips may be of.
        """
        n, classes = z.shape[1:]
        emotions = possible.nonzero()[:, 0]
        count = len(emotions)
        precision, prior = torch.linalg.inv(self.within), torch.linalg.inv(self.between)
        uncertainty = torch.linalg.inv(prior + n * precision)
        main = torch.zeros(count, classes, device=z.device)
        main[torch.arange(count, device=z.device), emotions] = 1.0
        even = main.mean(0, keepdim=True)
        shares = torch.cat([even, *(torch.lerp(even, main, peak) for peak in PEAKS)])
        log_shares = shares.clamp(min=_TINY).log().masked_fill(~possible, -math.inf)[None, :, None]
        offset = n * (z.mean(1)[:, None] - shares @ self.mean) @ precision @ uncertainty
        offset[:, 0] = 0.0
        for _ in range(ROUNDS):
            emotion = (self._log_likelihood(z, offset, precision) + log_shares).softmax(-1)
            offset = (z[:, None] - emotion @ self.mean).sum(2) @ precision @ uncertainty
        evidence = (self._log_likelihood(z, offset, precision) + log_shares).logsumexp(-1).sum(2)
        evidence = evidence - 0.5 * ((offset @ prior) * offset).sum(-1)
        return _Voice(offset, evidence, torch.linalg.inv(self.within + uncertainty), log_shares)

    def _log_likelihood(self, z: Tensor, offset: Tensor, precision: Tensor) -> Tensor:
        """Of each clip given each emotion, up to a constant: `(G, H, n, C)`."""
        distance = z[:, None, :, None] - self.mean - offset[:, :, None, None]
        return -0.5 * ((distance @ precision) * distance).sum(-1)

    def _hypotheses(self, z: Tensor, plain: Tensor, possible: Tensor, voice: _Voice) -> Tensor:
        """The probabilities `(G, n, 4, C)` of clips `z (G, n, C)`: alone, balanced, mostly one, one emotion."""
        each = (self._log_likelihood(z, voice.offset, voice.precision) + voice.log_shares).softmax(-1)
        shares = voice.evidence[:, 1:].unflatten(1, (len(PEAKS), -1)).softmax(-1)  # of each main emotion
        peaked = (shares[..., None, None] * each[:, 1:].unflatten(1, shares.shape[1:])).sum(2)
        alone = plain * possible / (plain * possible).sum(-1, keepdim=True).clamp(min=_TINY)
        return torch.stack([alone, each[:, 0], *peaked.unbind(1)], dim=2).clamp(min=_TINY)

    def _features(self, z: Tensor, plain: Tensor, possible: Tensor, voice: _Voice, hypotheses: Tensor) -> Tensor:
        """What the gate sees of each group: `(G, F)`."""
        groups, n, classes = z.shape
        count = int(possible.sum())
        precision, prior = torch.linalg.inv(self.within), torch.linalg.inv(self.between)
        spread = z - z.mean(1, keepdim=True)
        scatter = ((spread @ precision) * spread).sum((1, 2)) / (max(n - 1, 1) * classes)
        peaked = voice.evidence[:, 1:].unflatten(1, (len(PEAKS), count))
        mostly, one = (voice.evidence[:, :1] - peaked.logsumexp(2) + math.log(count)).unbind(1)
        size = ((voice.offset[:, 0] @ prior) * voice.offset[:, 0]).sum(-1) / classes
        alone, balanced = hypotheses[:, :, 0], hypotheses[:, :, 1]
        features = [
            scatter.clamp(max=5),
            _entropy(alone.mean(1), count),
            _entropy(alone, count).mean(1),
            mostly.clamp(-20, 20) / 5,
            mostly / n,
            one.clamp(-20, 20) / 5,
            one / n,
            size.clamp(max=5),
            _entropy(balanced.mean(1), count),
            _entropy(balanced, count).mean(1),
            peaked[:, 0].softmax(1).amax(1),
            peaked[:, 1].softmax(1).amax(1),
        ]
        described = torch.stack(features, 1)
        log_n = torch.full((groups, 1), math.log(n), device=z.device)
        constant = torch.ones(groups, 1, device=z.device)
        return torch.cat([constant, log_n, log_n.square(), described, log_n * described], 1)

    def _with_gate(
        self, z: Tensor, targets: np.ndarray, speakers: np.ndarray, corpus: np.ndarray, seed: int
    ) -> "SpeakerModel":
        """This model with a gate that is fitted on groups of clips of one speaker each."""
        random = np.random.default_rng(seed)
        z = z.float()
        plain = z.softmax(-1)
        examples: list[tuple[Tensor, Tensor, float]] = []  # features (G, F), probability of the truth (G, n, 4), weight
        for name in np.unique(corpus):
            clips = np.flatnonzero(corpus == name)
            possible = torch.zeros(z.shape[1], dtype=torch.bool)
            possible[np.unique(targets[clips])] = True
            for size in GROUP_SIZES:
                for mixture, weight in MIXTURES.items():
                    groups = _groups(clips, targets, speakers, size, mixture, random)
                    if groups is None:
                        continue
                    voice = self._voice(z[groups], possible)
                    hypotheses = self._hypotheses(z[groups], plain[groups], possible, voice)
                    features = self._features(z[groups], plain[groups], possible, voice, hypotheses)
                    truth = torch.from_numpy(targets[groups])[:, :, None, None].expand(-1, -1, HYPOTHESES, 1)
                    examples.append((features, hypotheses.gather(3, truth)[..., 0], weight))
        if not examples:
            gate = torch.zeros(FEATURES, HYPOTHESES)
            gate[0, 0] = 20.0  # no group to learn from: each clip alone
            return SpeakerModel(self.mean, self.within, self.between, gate, self.gate_center, self.gate_scale)
        described = torch.cat([features for features, _, _ in examples])
        center, scale = described.mean(0), described.std(0, correction=0) + 1e-6
        center[0], scale[0] = 0.0, 1.0
        gate = torch.zeros(FEATURES, HYPOTHESES, requires_grad=True)
        optimizer = torch.optim.LBFGS([gate], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            total = GATE_DECAY * gate.square().sum()
            for features, truth, weight in examples:
                log_weights = (((features - center) / scale) @ gate).log_softmax(-1)
                total = total - weight / len(examples) * (log_weights[:, None] + truth.log()).logsumexp(-1).mean()
            total.backward()
            return total

        optimizer.step(loss)
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
