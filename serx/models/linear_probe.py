"""`LinearProbe`: logistic regression on the layers of a frozen pretrained encoder.

The mean and deviation of every layer (`FrozenEncoder`) are standardized, reduced to principal components and classified
linearly. Three things make it understand speakers and corpora that it was not trained on:

1. *Speaker offsets.* Each component of a clip is the mean of its emotion, an offset of its speaker and noise. The
   regression is fitted to the training clips without the offsets of their speakers.
2. *The offset of a single clip.* A new clip comes with the offset of an unknown speaker, room and microphone. It is
   inferred from that clip alone, together with the emotion, and subtracted.
3. *Corpora.* Where several corpora train, what one corpus does to express an emotion and the others do not is a reason
   to trust a direction less: such directions are regularized more (`corpus_penalty`).

The fit is exact and has no randomness: one epoch, the same for every seed.

Input: waveforms as features `(B, 1, T)` and their `lengths (B,)`. `FrozenEncoder` is the shared part, and `LinearProbe`
is what is fitted: `(B, F, 1)` -> `(B, C)`.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from serx.models.classical import ABSENT_CLASS_LOGIT
from serx.models.encoder_config import EncoderConfig
from serx.models.encoder_probe import FrozenEncoder, frozen_encoder
from serx.models.layers import EmbeddingHead, OutputLayer
from serx.models.registry import register_model

RELIABILITY = 0.3  # a clip counts as this much of an independent observation, since its components are not independent
MIN_SPEAKERS = 4  # fewer have no measurable variance
CLIP_ROUNDS = 5  # of expectation maximization for a single clip
FIT_ROUNDS = 5  # of emotions' means and speakers' offsets in turn
MAX_ITERATIONS = 500
EXACT_RATIO = 4  # principal components are computed exactly from at most this many times as many clips
OVERSAMPLING, SUBSPACE_ROUNDS = 64, 4  # otherwise


class LinearProbeConfig(EncoderConfig):
    """The encoder, and how the logistic regression is regularized.

    >>> LinearProbeConfig(source="openai/whisper-base", l2=0.2).kind
    'linear_probe'
    """

    kind: Literal["linear_probe"] = "linear_probe"
    components: int = Field(
        1024, ge=1, le=1 << 14, description="principal components that are classified, or one fewer than training clips"
    )
    l2: float = Field(0.2, ge=1e-9, le=1e9, description="L2 penalty on the weights, beside the mean cross-entropy")
    corpus_penalty: float = Field(
        10.0,
        ge=0,
        le=1e6,
        description="how much more directions are penalized in which corpora express an emotion differently",
    )
    corpus_norm: bool = Field(
        False,
        description="train on vectors whose mean is the same in every corpus; a new clip keeps its own, and what "
        "shifts it is inferred as the offset of its speaker",
    )
    ensemble_size: int = Field(
        1, ge=1, le=1, description="always 1: a fit is deterministic, so an ensemble would repeat it"
    )
    relaxed_freq_norm: float = Field(0.0, ge=0, le=0, description="always 0: a vector has no frames")

    @property
    def fits(self) -> int:
        return 1


class ClipOffsetHead(EmbeddingHead):
    """A linear classifier that takes the offset of the speaker out of each clip, `(B, D)` -> `(B, C)`.

    Attributes:
        means: `(C, D)`, the mean of each emotion.
        within: `(D,)`, the variance of a speaker's clips of one emotion.
        between: `(D,)`, the variance of the speakers' offsets; 0 until it is fitted: nothing is taken out.
        own_share: from 0 to 1, how far the offset counts that each clip tells of itself: less where a speaker is known
            from several clips (`serx.inference.adaptation`).

    >>> head = ClipOffsetHead(4, 2)
    >>> embedding = torch.ones(3, 4)
    >>> torch.equal(head(embedding), head.classifier(embedding))
    True
    """

    means: Tensor
    within: Tensor
    between: Tensor

    def __init__(self, size: int, classes: int) -> None:
        super().__init__(OutputLayer(size, classes))
        self.register_buffer("means", torch.zeros(classes, size))
        self.register_buffer("within", torch.ones(size))
        self.register_buffer("between", torch.zeros(size))
        self.own_share = 1.0

    @property
    def classifier(self) -> OutputLayer:
        """What reads an embedding without an offset."""
        [output] = self
        assert isinstance(output, OutputLayer)
        return output

    def forward(self, embedding: Tensor) -> Tensor:
        if self.own_share == 0:
            return self.classifier(embedding)
        return self.classifier(embedding - self.own_share * self._own_offset(embedding))

    def _own_offset(self, embedding: Tensor) -> Tensor:
        """What each clip says of its speaker's offset, `(B, D)`: expectation maximization with one clip."""
        weight = self.between / (self.between + self.within / RELIABILITY)
        offset = torch.zeros_like(embedding)
        for _ in range(CLIP_ROUNDS):
            emotions = self.classifier(embedding - offset).softmax(-1)
            offset = weight * (embedding - emotions @ self.means)
        return offset


@dataclass(frozen=True)
class ProbeTargets:
    """What a probe is fitted to.

    Attributes:
        truth: `(n, C)` float64, the shares of the classes.
        smoothed: `(n, C)` float64, the same after label smoothing, which the regression is fitted to.
        possible: `(n, C)` bool, the classes that the clip's corpus has; None for all.
        weights: `(n,)` float64, how much each clip counts.
        speakers: `(n,)` int64.
        corpora: `(n,)` int64.
    """

    truth: Tensor
    smoothed: Tensor
    possible: Tensor | None
    weights: Tensor
    speakers: Tensor
    corpora: Tensor


@register_model(LinearProbeConfig)
class LinearProbe(nn.Module):
    """Standardized principal components of a vector, and a `ClipOffsetHead`."""

    center: Tensor
    projection: Tensor

    def __init__(self, config: LinearProbeConfig, bins: int, classes: int) -> None:
        """`bins` is 1, since waveforms are the features; the vector has `config.vector_size` entries."""
        super().__init__()
        self.config = config
        self.register_buffer("center", torch.zeros(config.vector_size))
        self.register_buffer("projection", torch.zeros(config.vector_size, config.components))
        self.head = ClipOffsetHead(config.components, classes)
        self.head.requires_grad_(False)

    @classmethod
    def shared_part(cls, config: LinearProbeConfig, bins: int, pretrained: bool) -> FrozenEncoder:
        return frozen_encoder(config, pretrained)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):  # sums of thousands of products need float32
            return self.head(self.embed(features[..., 0]))

    def embed(self, vectors: Tensor) -> Tensor:
        """`(B, F)` -> `(B, D)`."""
        return (vectors.float() - self.center) @ self.projection

    @torch.no_grad()
    def fit(self, vectors: Tensor, targets: ProbeTargets) -> None:
        """Fits everything but the encoder to `vectors (n, F)` of at least two clips."""
        weights = targets.weights / targets.weights.mean()
        recorded, several = vectors.float(), len(torch.unique(targets.corpora)) > 1
        normalized = self.config.corpus_norm and several
        vectors = _with_equal_means(recorded, targets.corpora, weights.float()) if normalized else recorded
        center, projection = _principal_components(vectors, weights.float(), self.config.components)
        embedding = ((vectors - center) @ projection).double()
        penalty = _corpus_penalty(embedding, targets, weights, self.config.corpus_penalty)
        if penalty is not None:  # x -> L^-1 x: the L2 penalty of what reads it is that of the penalized directions
            factor = torch.linalg.cholesky(penalty)
            embedding = torch.linalg.solve_triangular(factor, embedding.T, upper=False).T
            projection = torch.linalg.solve_triangular(factor, projection.double().T, upper=False).T.float()
        means, offsets = _means_and_offsets(embedding, targets, weights)
        without_offset = embedding - offsets[targets.speakers]
        weight, bias = _logistic_regression(without_offset, targets, weights, self.config.l2)
        bias[targets.truth.sum(0) == 0] = ABSENT_CLASS_LOGIT
        within, between = _speaker_variances(
            embedding - targets.truth @ means, offsets, targets.speakers, targets.corpora, weights
        )
        if normalized:  # a new speaker comes with the shift of a corpus too
            as_recorded = ((recorded - center) @ projection).double()
            own_means, own_offsets = _means_and_offsets(as_recorded, targets, weights)
            residual = as_recorded - targets.truth @ own_means
            _, between = _speaker_variances(residual, own_offsets, targets.speakers, targets.corpora, weights)
        size = embedding.shape[1]
        self.center.copy_(center)
        self.projection.zero_()[:, :size] = projection
        head, output = self.head, self.head.classifier
        for buffer in (head.means, output.weight, output.bias, head.between):
            buffer.zero_()
        head.within.fill_(1.0)
        head.means[:, :size], head.within[:size], head.between[:size] = means, within, between
        output.weight[:, :size], output.bias[:] = weight.T, bias


def _with_equal_means(vectors: Tensor, corpora: Tensor, weights: Tensor) -> Tensor:
    """`vectors (n, F)`, shifted so that the weighted mean of each corpus is the mean of all."""
    shares = F.one_hot(torch.unique(corpora, return_inverse=True)[1]).to(vectors.dtype) * weights[:, None]
    means = (shares / shares.sum(0)).T @ vectors
    overall = (weights / weights.sum()) @ vectors
    return vectors - means[torch.unique(corpora, return_inverse=True)[1]] + overall


def _principal_components(vectors: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean `(F,)`, and the projection `(F, D)` of centered vectors onto standardized principal components.

    D is at most n - 1. Large corpora get a randomized decomposition, always with the same random numbers.
    """
    share = (weights / weights.sum())[:, None]
    center = (share * vectors).sum(0)
    deviation = (share * (vectors - center).square()).sum(0).sqrt()
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    standardized = (share * len(vectors)).sqrt() * (vectors - center) * scale
    count = min(count, len(vectors) - 1, vectors.shape[1])
    return center, scale[:, None] * _leading_directions(standardized, count)


def _leading_directions(rows: Tensor, count: int) -> Tensor:
    """The right singular vectors `(F, count)` of `rows (n, F)` with the largest singular values.

    Of many rows they are found by subspace iteration (Halko et al. 2011, "Finding structure with randomness").
    """
    if len(rows) <= EXACT_RATIO * count:
        return torch.linalg.svd(rows, full_matrices=False).Vh[:count].T
    columns = min(count + OVERSAMPLING, *rows.shape)
    basis = torch.randn(rows.shape[1], columns, generator=torch.Generator().manual_seed(0)).to(rows.device)
    for _ in range(SUBSPACE_ROUNDS):
        basis = torch.linalg.qr(rows.T @ (rows @ basis)).Q
    return basis @ torch.linalg.svd(rows @ basis, full_matrices=False).Vh[:count].T


def _corpus_penalty(embedding: Tensor, targets: ProbeTargets, weights: Tensor, strength: float) -> Tensor | None:
    """`(D, D)`: the unit matrix, and the covariance of what each corpus adds to each emotion; None for one corpus.

    A corpus shifts all of its clips, which is no harm, and each of its emotions by something of its own.
    """
    corpora = torch.unique(targets.corpora)
    if strength == 0 or len(corpora) < 2:
        return None
    mass = torch.stack([(targets.truth * weights[:, None])[targets.corpora == c].sum(0) for c in corpora])  # (S, C)
    sums = torch.stack(
        [(targets.truth * weights[:, None])[own].T @ embedding[own] for own in (targets.corpora == c for c in corpora)]
    )
    present = mass > 0
    cells = sums / mass.clamp(min=1e-12)[..., None]  # (S, C, D)
    shifts = cells.new_zeros(len(corpora), 1, cells.shape[-1])
    for _ in range(2 * FIT_ROUNDS):
        means = _mean_where(cells - shifts, present, dim=0)
        shifts = _mean_where(cells - means, present, dim=1)
    own = (cells - means - shifts)[present]
    scale = embedding.var(0).mean()
    unit = torch.eye(embedding.shape[1], dtype=embedding.dtype, device=embedding.device)
    return unit + strength / scale * (own.T @ own) / len(own)


def _speaker_variances(
    residual: Tensor, offsets: Tensor, speakers: Tensor, corpora: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The variance of a speaker's clips of one emotion, and that of speakers' offsets; `(D,)` each.

    Args:
        residual: `(n, D)`, embeddings without the means of their emotions.
        offsets: `(S, D)`, the mean residual of each speaker; all 0: their variance is 0 too.
        speakers: `(n,)` indices.
        corpora: `(n,)` indices; every corpus counts alike.
        weights: `(n,)`, how much each clip counts.
    """
    share = (weights / weights.sum())[:, None]
    within = (share * (residual - offsets[speakers]).square()).sum(0)
    by_corpus = [offsets[speakers[corpora == c].unique()].square().mean(0) for c in corpora.unique()]
    clips = len(speakers) / len(speakers.unique())
    return within, (torch.stack(by_corpus).mean(0) - within / clips).clamp(min=0.0)


def _mean_where(values: Tensor, present: Tensor, dim: int) -> Tensor:
    """The mean of `values (S, C, D)` over `dim`, which stays, of what is `present (S, C)`."""
    counts = present.sum(dim, keepdim=True).clamp(min=1)[..., None]
    return (values * present[..., None]).sum(dim, keepdim=True) / counts


def _means_and_offsets(embedding: Tensor, targets: ProbeTargets, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each emotion `(C, D)` and the offset of each speaker `(S, D)`; 0 for fewer than `MIN_SPEAKERS`."""
    spoken = F.one_hot(targets.speakers).to(embedding.dtype)  # (n, S)
    spoken = spoken / spoken.sum(0).clamp(min=1)
    shares = targets.truth * weights[:, None]
    shares = shares / shares.sum(0).clamp(min=1e-12)
    offsets = embedding.new_zeros(spoken.shape[1], embedding.shape[1])
    means = shares.T @ embedding
    for _ in range(FIT_ROUNDS if len(torch.unique(targets.speakers)) >= MIN_SPEAKERS else 0):
        offsets = spoken.T @ (embedding - targets.truth @ means)
        means = shares.T @ (embedding - offsets[targets.speakers])
    return means, offsets


def _logistic_regression(embedding: Tensor, targets: ProbeTargets, weights: Tensor, l2: float) -> tuple[Tensor, Tensor]:
    """Weights `(D, C)` and bias `(C,)` of least weighted mean cross-entropy and L2 penalty, by L-BFGS."""
    classes = targets.truth.shape[1]
    weight = embedding.new_zeros(embedding.shape[1], classes).requires_grad_()
    bias = embedding.new_zeros(classes).requires_grad_()
    impossible = None if targets.possible is None else ~targets.possible
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=MAX_ITERATIONS,
        tolerance_grad=1e-7,
        tolerance_change=1e-10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = embedding @ weight + bias
        if impossible is not None:
            logits = logits.masked_fill(impossible, ABSENT_CLASS_LOGIT * 1e3)
        entropy = -(targets.smoothed * logits.log_softmax(1)).sum(1)
        total = (weights * entropy).mean() + 0.5 * l2 * weight.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(loss)
    return weight.detach(), bias.detach()
