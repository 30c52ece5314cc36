"""A map of clips: near each other where the network finds them alike (t-SNE: van der Maaten & Hinton 2008)."""

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from serx.data.batches import BatchSource
from serx.inference.adaptation import captured_embeddings, output_layers
from serx.recognizer import Recognizer

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
    rows = []
    with captured_embeddings(recognizer) as read_embeddings:
        for start in range(0, len(clips), BATCH):
            log_probabilities = recognizer(*source.batch(clips[start : start + BATCH])).log_softmax(-1)
            rows.append(read_embeddings() if output_layers(recognizer) else log_probabilities)
    return torch.cat(rows).double().cpu().numpy()


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
