"""A map of clips: near each other where the network finds them alike (t-SNE: van der Maaten & Hinton 2008)."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from serx.data.batches import BatchSource
from serx.models.layers import output_layers
from serx.recognizer import Recognizer, embeddings_of

MAX_POINTS = 1500  # more take minutes, and a page of megabytes
MIN_POINTS = 10
PERPLEXITY = 30.0
DIMENSIONS = 50  # of the vectors that t-SNE gets, as its authors advise
BATCH = 16


def chosen_clips(count: int) -> np.ndarray:
    """The positions of the clips of a map: all of them, or `MAX_POINTS` at equal distances."""
    if count <= MAX_POINTS:
        return np.arange(count)
    return np.linspace(0, count - 1, MAX_POINTS).round().astype(int)


@torch.inference_mode()
def embeddings(recognizer: Recognizer, source: BatchSource, clips: np.ndarray) -> np.ndarray:
    """`(n, D)` vectors of `clips (n,)`: what the output layer reads; without one, the log-probabilities."""
    recognizer.eval()
    batches = (source.batch(clips[start : start + BATCH]) for start in range(0, len(clips), BATCH))
    if layers := output_layers(recognizer):
        rows = F.normalize(torch.cat(embeddings_of(recognizer, layers, batches), 1))
    else:
        rows = torch.cat([recognizer(*batch).log_softmax(-1) for batch in batches])
    return rows.double().cpu().numpy()


def flat_map(vectors: np.ndarray) -> np.ndarray | None:
    """Places `(n, 2)` from 0 to 1 for `vectors (n, D)`, the same in every call; None for few or equal vectors."""
    if len(vectors) < MIN_POINTS or not np.ptp(vectors, axis=0).any():
        return None
    with threadpool_limits(1):  # several threads add up in another order each time
        dimensions = min(DIMENSIONS, *vectors.shape)
        vectors = PCA(dimensions, svd_solver="full").fit_transform(vectors)
        perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
        places = TSNE(perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(vectors)
    low, high = places.min(0), places.max(0)
    return (places - low) / np.maximum(high - low, 1e-12)
