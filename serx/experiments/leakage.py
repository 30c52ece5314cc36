"""The leakage lesson: what three common mistakes in choosing a test part do to the scores of one recipe.

Published accuracies of 92 to 98 % on acted speech come from test parts that overlap with training: the corpus was
downloaded with every file twice, or augmented before it was split, or split by clips, so that each speaker is in every
part. This module makes each mistake on purpose, and compares it with the same training without the mistake. No
configuration can make them: the leaky splits are built here, and the leak check refuses them everywhere else.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serx import plots
from serx.augment.compose import augment
from serx.augment.noise import Noise
from serx.augment.speed_and_pitch import PitchShift, TimeStretch
from serx.augment.transform import Transform
from serx.config.loader import Config
from serx.data.batches import BatchSource, StreamedAudio, make_batch_source
from serx.data.cache.audio_cache import AudioCache, to_int16
from serx.data.dataset import DataConfig, Dataset, load_dataset, split_dataset
from serx.data.splits.protocols import Split
from serx.data.utterances import Utterances
from serx.device import choose_device, configure_torch
from serx.errors import ConfigError, DivergedError
from serx.evaluation.evaluate_checkpoint import predict_clips, predict_ratings
from serx.evaluation.ratings import score_ratings
from serx.evaluation.report import write_files
from serx.evaluation.scores import score_predictions
from serx.evaluation.stamps import adapted_stamp
from serx.evaluation.tables import count, percent
from serx.experiments.feature_cache import FeatureCache, cache_features
from serx.files import plain, to_json
from serx.inference.predictor import Predictor
from serx.seeding import generator
from serx.terminal import Block, ProgressBar, Table, as_text, wrap
from serx.training.console import echo
from serx.training.new_run import dimension_ranges, fit_normalizer
from serx.training.run_folder import BEST, LAST, lock_run_folder
from serx.training.state import TrainingState
from serx.training.trainer import Trainer

BATCH = 8


def with_copies(
    dataset: Dataset, transforms: Sequence[Transform], sample_rate: int, seed: int, progress: bool = True
) -> Dataset:
    """The n clips of `dataset`, then a copy of each by the first transform, by the second, and so on.

    Copy j of clip i is clip `(j + 1) * n + i`; its path contains the name of the transform. All audio is in memory.
    """
    audio_cache, originals = dataset.audio_cache, len(dataset.utterances)
    source = StreamedAudio(audio_cache, torch.device("cpu"))
    samples, scales, digests = [audio_cache.samples()], list(audio_cache.scales), list(audio_cache.digests)
    lengths, utterances = list(audio_cache.lengths), list(dataset.utterances)
    with ProgressBar("copies", originals * len(transforms), "clips", progress) as bar:
        for number, transform in enumerate(transforms):
            for clips in np.array_split(np.arange(originals), -(-originals // BATCH)):
                waveform, sizes = source.batch(clips)
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
    with_copies_too = AudioCache.in_memory(
        np.concatenate(samples), np.asarray(lengths), np.asarray(scales, np.float32), digests, audio_cache.folder
    )
    originals_of = np.tile(np.arange(originals), 1 + len(transforms))
    return replace(
        dataset,
        **{**dataset.part(originals_of.tolist()), "utterances": Utterances.of(utterances)},
        audio_cache=with_copies_too,
    )


# About as strong as the augmentation of published systems that augment before they split.
COPIES: tuple[Transform, ...] = (
    Noise(p=1.0, snr_db=(15.0, 30.0)),
    TimeStretch(p=1.0, tempo=(0.8, 0.9)),
    PitchShift(p=1.0, semitones=(0.5, 1.0)),
)
TWICE = "LEAKY: every file twice and clips drawn at random, so recordings of the training part are tested"
COPIED = "LEAKY: copies made before clips were drawn at random, so copies of training clips are tested"


@dataclass(frozen=True)
class Case:
    """One way to choose a test part.

    Attributes:
        name: of its run folder.
        title: for tables and figures.
        split: of the clips and their copies.
        speaker_independent: False for the mistakes.
    """

    name: str
    title: str
    split: Split
    speaker_independent: bool = False


def run_leakage_lesson(
    config: Config, out: Path, copies: int = len(COPIES), progress: bool = True
) -> tuple[dict[str, Any], int]:
    """Trains and tests `config` four times, and writes leakage.json and leakage.png into `out`.

    `copies` augmented copies of every clip are made first and replace `augment.waveform`, `augment.mel_warp` and
    `augment.copies`. Except for the mistake of splitting after copying, only copies of training clips are used. All
    test parts hold the same share of the clips as the speaker-independent one.

    Args:
        config: the recipe, with a speaker-independent protocol.
        out: the folder of the runs and of the result.
        copies: of each clip.
        progress: shows progress bars.

    Returns:
        The content of leakage.json, and the exit code: 0, or 128 plus the signal that stopped the lesson.

    Raises:
        ConfigError: the protocol is not speaker-independent, there are no copies, or `out` holds a lesson.
        DivergedError: a training had no finite score.
    """
    if copies < 1:
        raise ConfigError(f"--copies {copies}: the lesson is about copies; give at least one")
    if any(out.glob(f"*/{LAST}")):
        raise ConfigError(f"--out {out}: holds a leakage lesson, which cannot be resumed; name another folder")
    device = choose_device(config.train.device)
    configure_torch(config.train.threads, config.train.deterministic)
    config.model.resolved()
    dataset = load_dataset(config.data, progress=progress)
    cases = make_cases(dataset, config, copies, progress)
    transforms = [COPIES[number % len(COPIES)] for number in range(copies)]
    for note in dataset.notes:
        echo(f"note: {note}")
    dataset = replace(dataset, notes=())  # each of the four trainings would print them again
    dataset_with_copies = with_copies(dataset, transforms, config.data.sample_rate, config.train.seed, progress)
    source = make_batch_source(dataset_with_copies.audio_cache, device, config.data.placement)
    cache, results = FeatureCache(), []
    plain_augment = config.augment.model_copy(update={"waveform": (), "mel_warp": None, "copies": 0})
    for case in cases:
        data = config.data if case.speaker_independent else _at_random(config.data)
        own = config.model_copy(update={"data": data, "augment": plain_augment})
        echo(f"\n{case.title}: {len(case.split.train)} training and {len(case.split.test)} test clips")
        stopped_by = _train(own, dataset_with_copies, case, source, out / case.name, cache, device, progress)
        if stopped_by is not None:
            return {}, 128 + stopped_by
        results.append(_test(dataset_with_copies, case, source, out / case.name, cache, device))
    lesson = plain(
        {
            "epochs": config.train.epochs,
            "seed": config.train.seed,
            "copies": copies,
            "cases": results,
            "config": config.model_dump(mode="json"),
        }
    )
    epochs = count(config.train.epochs, "epoch")
    title = f"One recipe ({config.model.kind}), {epochs} each: the score depends on how the test part is chosen"
    if dataset.labels:
        rows = [(r["title"], r["accuracy"], r["uar"], r["speaker_independent"]) for r in results]
        figure = plots.protocols_figure(rows, 1 / len(dataset.labels), title)
    else:
        rated = [(r["title"], r["ccc"], None, r["speaker_independent"]) for r in results]
        figure = plots.protocols_figure(rated, 0.0, title, "mean CCC")
    write_files(out, {"leakage.png": plots.figure_png(figure), "leakage.json": to_json(lesson)})
    return lesson, 0


def make_cases(dataset: Dataset, config: Config, copies: int, progress: bool = True) -> list[Case]:
    """The four splits of the n clips and their copies (copy j of clip i is clip `(j + 1) * n + i`).

    Raises:
        ConfigError: the protocol of the configuration is not speaker-independent.
        LeakError: the corpus itself leaks, because it holds files twice.
    """
    independent = split_dataset(dataset, config.data, progress)
    if not independent.speaker_independent:
        few = len({u.speaker_id for u in dataset.utterances}) < config.data.folds
        apart = "luna5" if {u.corpus for u in dataset.utterances} == {"ravdess"} else "loso" if few else "kfold"
        raise ConfigError(
            f"data.protocol: {independent.stamp}; the lesson ends with speakers apart: add data.protocol={apart}"
        )
    n = len(dataset.utterances)
    test = len(independent.test) / n
    valid = len(independent.valid) / (n - len(independent.test))
    shares = {"test_fraction": test, "valid_fraction": valid}
    by_clips = split_dataset(dataset, _at_random(config.data).model_copy(update=shares), progress)
    targets, seed = np.tile(dataset.targets, 1 + copies), config.data.split_seed
    twice = naive_split(np.tile(np.arange(n), 2), targets, test, valid, seed, TWICE)
    copied = naive_split(np.arange((1 + copies) * n), targets, test, valid, seed, COPIED)
    made = "1 augmented copy" if copies == 1 else f"{copies} augmented copies"
    return [
        Case("0-doubled", "every file twice, clips at random", in_training(twice, n, copies)),
        Case("1-copies", f"{made} made first, then clips at random", copied),
        Case("2-random", "clips at random, augmented in training only", in_training(by_clips, n, copies)),
        Case(
            "3-speakers",
            "speakers apart, augmented in training only",
            in_training(independent, n, copies),
            speaker_independent=True,
        ),
    ]


def _at_random(data: DataConfig) -> DataConfig:
    """The same data, split by clips at random."""
    by_clips = {"protocol": "random", "fold": 0, "test_speakers": (), "valid_speakers": (), "test_corpora": ()}
    return data.model_copy(update=by_clips)


def naive_split(
    entries: np.ndarray, targets: np.ndarray, test_fraction: float, valid_fraction: float, seed: int, stamp: str
) -> Split:
    """Draws entries of each class at random, as if each were an independent clip; copies end up in any part.

    Args:
        entries: `(m,)` clips; a clip that occurs twice is drawn twice and can be in two parts.
        targets: the class of every clip.
        test_fraction: share of the entries.
        valid_fraction: share of the entries outside the test part.
        seed: of the draw.
        stamp: the protocol stamp.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(targets):
        members = entries[targets[entries] == label]
        order = members[torch.randperm(len(members), generator=generator(seed, "naive split", int(label))).numpy()]
        test_end = round(test_fraction * len(order))
        valid_end = test_end + round(valid_fraction * (len(order) - test_end))
        for part, chosen in zip(parts, np.split(order, [test_end, valid_end]), strict=True):
            part.extend(chosen.tolist())
    test, valid, training = (tuple(sorted(part)) for part in parts)
    return Split(training, valid, test, stamp, speaker_independent=False, validation_independent=False)


def in_training(split: Split, n: int, copies: int) -> Split:
    """The split with the copies of its training clips added to the training part."""
    training = [copy * n + clip for copy in range(1 + copies) for clip in split.train]
    return Split(
        tuple(training), split.valid, split.test, split.stamp, split.speaker_independent,
        split.validation_independent, split.notes,
    )  # fmt: skip


def _train(
    config: Config,
    dataset: Dataset,
    case: Case,
    source: BatchSource,
    folder: Path,
    cache: FeatureCache,
    device: torch.device,
    progress: bool,
) -> int | None:
    """Trains one case; returns the signal that stopped it, or None."""
    with lock_run_folder(folder, "leakage study", "--out"):
        ranges = dimension_ranges(dataset, case.split)
        state = TrainingState(config, dataset.labels, device, pretrained=True, dimensions=ranges)
        cache_features(state.recognizer, cache)
        fit_normalizer(state, case.split, source)
        result = Trainer(state, dataset, case.split, source, folder, progress).run()
    if result.stopped_by is None and not result.kept:
        raise DivergedError(f"{case.title}: no epoch had a finite score; lower optim.lr")
    return result.stopped_by


def _test(
    dataset: Dataset, case: Case, source: BatchSource, folder: Path, cache: FeatureCache, device: torch.device
) -> dict[str, Any]:
    """The scores of one case on its test part."""
    predictor = Predictor.load(folder / BEST, device)
    cache_features(predictor.recognizer, cache)
    clips, adapt = np.asarray(case.split.test), predictor.config.model.adapt
    protocol, scores = case.split.stamp, dict[str, Any]()
    if dataset.labels:
        predictions = predict_clips(predictor, dataset, clips, source, adapt)
        protocol = adapted_stamp(protocol, predictions.speaker_ids) if adapt else protocol
        of_classes = score_predictions(predictions, protocol)
        names = ("accuracy", "uar", "macro_f1", "n_clips", "n_speakers", "protocol")
        scores |= {name: of_classes[name] for name in names}
    if dataset.dimensions:
        ratings = predict_ratings(predictor, dataset, clips, source)
        of_dimensions = score_ratings(ratings, resamples=1)
        scores |= {"ccc": of_dimensions["mean"]["ccc"], "dimensions": of_dimensions}
        if not dataset.labels:
            speakers = len(set(ratings.speaker_ids))
            scores |= {"n_clips": len(ratings.paths), "n_speakers": speakers, "protocol": protocol}
    return {
        "case": case.name,
        "title": case.title,
        "speaker_independent": case.speaker_independent,
        **scores,
        **{f"n_{part}": len(getattr(case.split, part)) for part in ("train", "valid", "test")},
    }


def format_lesson(lesson: dict[str, Any]) -> str:
    """The text report: a table of the cases, and the protocol stamp of each."""
    return as_text(lesson_blocks(lesson))


def lesson_blocks(lesson: dict[str, Any]) -> list[Block]:
    """The same report as a table and lines."""
    columns = {"accuracy": ("accuracy, %", percent), "uar": ("UAR, %", percent), "ccc": ("CCC", "{:.3f}".format)}
    scores = {name: column for name, column in columns.items() if name in lesson["cases"][0]}
    rows = [
        [case["title"], *(show(case[name]) for name, (_, show) in scores.items()), case["n_train"], case["n_test"]]
        for case in lesson["cases"]
    ]
    epochs = count(lesson["epochs"], "epoch")
    title = f"One recipe, {epochs} each, four ways to choose the test part; clips in training and test"
    header = ["", *(title for title, _ in scores.values()), "training", "test"]
    lines: list[Block] = [Table(title, header, rows)]
    for case in lesson["cases"]:
        lines += wrap(f"  {case['case']}: {case['protocol']}")
    return lines
