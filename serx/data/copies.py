"""Augmented copies of every clip, made beforehand, as systems do that augment a corpus and then split it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from tqdm import tqdm

from serx.data.corpus import StreamedCorpus
from serx.data.dataset import Dataset
from serx.data.pack import Pack, to_int16
from serx.transforms.augment import augment
from serx.transforms.transform import Transform

BATCH = 8


def with_copies(
    dataset: Dataset, transforms: Sequence[Transform], sample_rate: int, seed: int, progress: bool = True
) -> Dataset:
    """The n clips of `dataset`, then a copy of each by the first transform, by the second, and so on.

    Copy j of clip i is clip `(j + 1) * n + i`; its path bears the transform's name. All audio is held in memory.
    """
    pack, count = dataset.pack, len(dataset.utterances)
    corpus = StreamedCorpus(pack, torch.device("cpu"))
    samples, scales, digests = [np.asarray(pack.samples)], list(pack.scales), list(pack.digests)
    lengths, utterances = list(pack.lengths), list(dataset.utterances)
    hidden = None if progress else True  # None: shown on a terminal only
    with tqdm(total=count * len(transforms), desc="copies", unit="clip", disable=hidden) as bar:
        for number, transform in enumerate(transforms):
            for clips in np.array_split(np.arange(count), -(-count // BATCH)):
                waveform, sizes = corpus.batch(clips)
                rows = torch.from_numpy(clips)
                waveform, sizes = augment([transform], waveform, sizes, rows, sample_rate, seed, number)
                for clip, row, size in zip(clips, waveform.numpy(), sizes.tolist(), strict=True):
                    copy, scale = to_int16(row[:size])
                    samples.append(copy)
                    scales.append(np.float32(scale))
                    lengths.append(size)
                    digests.append(hashlib.sha256(copy.tobytes()).hexdigest()[:32])
                    path = dataset.utterances[clip].path
                    name = f"{path.stem}+{transform.kind}-{number}{path.suffix}"
                    utterances.append(replace(dataset.utterances[clip], path=path.with_name(name)))
                bar.update(len(clips))
    whole = Pack(
        folder=pack.folder,
        samples=np.concatenate(samples),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        scales=np.asarray(scales, np.float32),
        rows=tuple(range(len(lengths))),
        digests=tuple(digests),
        refused=pack.refused,
        fingerprint=f"{pack.fingerprint} with copies",
    )
    targets = np.tile(dataset.targets, 1 + len(transforms))
    return replace(dataset, utterances=tuple(utterances), targets=targets, pack=whole)
