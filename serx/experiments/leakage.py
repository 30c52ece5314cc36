"""The leakage lesson: one recipe, the same epochs and the same copies, tested as its test part is chosen.

Published accuracies of 92 to 98 % on acted speech come from test parts that were met in training: the corpus was
downloaded with every file twice, or augmented before it was split, or split by clips, so that each voice is in every
part. Here each mistake is made on purpose, beside the same training done without it. No configuration leads here: the
splits that leak are built in this file, and the leak check refuses them everywhere else.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from serx.augment.compose import augment
from serx.augment.noise import Noise
from serx.augment.speed_and_pitch import PitchShift, TimeStretch
from serx.augment.transform import Transform
from serx.config.loader import Config
from serx.data.audio_cache import AudioCache, to_int16
from serx.data.batches import BatchSource, StreamedAudio, make_batch_source
from serx.data.dataset import DataConfig, Dataset, load_dataset, split_dataset
from serx.data.protocols import Split
from serx.device import choose_device, configure_torch
from serx.errors import ConfigError, DivergedError
from serx.evaluation.held_out import predict_clips
from serx.evaluation.report import write_files
from serx.evaluation.scores import evaluate, plain
from serx.evaluation.stamps import adapted_stamp
from serx.evaluation.tables import percent, table, wrap
from serx.experiments.feature_cache import Memory, remember
from serx.inference.predictor import Predictor
from serx.plots.experiments import protocols_figure
from serx.plots.style import figure_png
from serx.seeding import generator
from serx.training.console import echo
from serx.training.run_folder import BEST, LAST, lock_run_folder
from serx.training.state import Run
from serx.training.trainer import fit_normalizer, train

BATCH = 8


def with_copies(
    dataset: Dataset, transforms: Sequence[Transform], sample_rate: int, seed: int, progress: bool = True
) -> Dataset:
    """The n clips of `dataset`, then a copy of each by the first transform, by the second, and so on.

    Copy j of clip i is clip `(j + 1) * n + i`; its path bears the transform's name. All audio is held in memory.
    """
    audio_cache, count = dataset.audio_cache, len(dataset.utterances)
    source = StreamedAudio(audio_cache, torch.device("cpu"))
    samples, scales, digests = [np.asarray(audio_cache.samples)], list(audio_cache.scales), list(audio_cache.digests)
    lengths, utterances = list(audio_cache.lengths), list(dataset.utterances)
    hidden = None if progress else True  # None: shown on a terminal only
    with tqdm(total=count * len(transforms), desc="copies", unit="clip", disable=hidden) as bar:
        for number, transform in enumerate(transforms):
            for clips in np.array_split(np.arange(count), -(-count // BATCH)):
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
    whole = AudioCache(
        folder=audio_cache.folder,
        samples=np.concatenate(samples),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        scales=np.asarray(scales, np.float32),
        rows=tuple(range(len(lengths))),
        digests=tuple(digests),
        skipped=audio_cache.skipped,
        fingerprint=f"{audio_cache.fingerprint} with copies",
    )
    targets = np.tile(dataset.targets, 1 + len(transforms))
    return replace(dataset, utterances=tuple(utterances), targets=targets, audio_cache=whole)


# One copy each, about as strong as the systems make them that augment before they split.
KINDS: tuple[Transform, ...] = (
    Noise(p=1.0, snr_db=(15.0, 30.0)),
    TimeStretch(p=1.0, tempo=(0.8, 0.9)),
    PitchShift(p=1.0, semitones=(0.5, 1.0)),
)


TWICE = "LEAKY: every file twice and clips drawn at random, so recordings of the training part are tested"


BEFORE = "LEAKY: copies made before clips were drawn at random, so copies of training clips are tested"


@dataclass(frozen=True)
class Case:
    """One way to choose a test part."""

    name: str
    title: str
    split: Split
    honest: bool = False


def run_leakage_lesson(
    config: Config, out: Path, copies: int = len(KINDS), progress: bool = True
) -> tuple[dict[str, Any], int]:
    """Trains and tests `config` four times, and writes leakage.json and leakage.png into `out`.

    `copies` of every clip are made beforehand and take the place of `augment.waveform` and `augment.mel_warp`; but for
    the first mistake, only those of training clips are used. All test parts have the share of the clips that the
    speaker-independent one has.

    Returns:
        The content of leakage.json, and the exit code: 0, or 128 and the signal that stopped it.

    Raises:
        ConfigError: the configuration's own protocol is not speaker-independent, there are no copies, or `out` holds
            a lesson.
        DivergedError: a training had no finite score.
    """
    if copies < 1:
        raise ConfigError(f"--copies {copies}: the lesson is about copies; give at least one")
    if any(out.glob(f"*/{LAST}")):
        raise ConfigError(f"--out {out}: a lesson is there already, and lessons do not go on; name another folder")
    device = choose_device(config.train.device)
    configure_torch(config.train.threads, config.train.deterministic)
    dataset = load_dataset(config.data, progress=progress)
    cases = make_cases(dataset, config, copies, progress)
    transforms = [KINDS[number % len(KINDS)] for number in range(copies)]
    for note in dataset.notes:
        echo(f"note: {note}")
    dataset = replace(dataset, notes=())  # else each of the four trainings would tell them again
    bank = with_copies(dataset, transforms, config.data.sample_rate, config.train.seed, progress)
    source, memory, results = make_batch_source(bank.audio_cache, device, config.data.placement), Memory(), []
    plain_augment = config.augment.model_copy(update={"waveform": (), "mel_warp": None})
    for case in cases:
        data = config.data if case.honest else _at_random(config.data)
        own = config.model_copy(update={"data": data, "augment": plain_augment})
        echo(f"\n{case.title}: {len(case.split.train)} training and {len(case.split.test)} test clips")
        stopped = _train(own, bank, case, source, out / case.name, memory, device, progress)
        if stopped is not None:
            return {}, 128 + stopped
        results.append(_test(bank, case, source, out / case.name, memory, device))
    told = {"epochs": config.train.epochs, "seed": config.train.seed, "copies": copies, "cases": results}
    lesson = plain({**told, "config": config.model_dump(mode="json")})
    rows = [(r["title"], r["accuracy"], r["uar"], r["honest"]) for r in results]
    title = f"One recipe ({config.model.kind}), {_epochs(config.train.epochs)} each: what its test part makes of it"
    picture = figure_png(protocols_figure(rows, 1 / len(dataset.labels), title))
    write_files(out, {"leakage.png": picture, "leakage.json": (json.dumps(lesson, indent=2) + "\n").encode()})
    return lesson, 0


def make_cases(dataset: Dataset, config: Config, copies: int, progress: bool = True) -> list[Case]:
    """The four splits of the n clips and their copies (copy j of clip i being clip `(j + 1) * n + i`).

    Raises:
        ConfigError: the configuration's own protocol is not speaker-independent.
        LeakError: the corpus itself leaks: files that are there twice must go first.
    """
    honest = split_dataset(dataset, config.data, progress)
    if not honest.speaker_independent:
        few = len({u.speaker_id for u in dataset.utterances}) < config.data.folds
        apart = "luna5" if {u.corpus for u in dataset.utterances} == {"ravdess"} else "loso" if few else "kfold"
        raise ConfigError(
            f"data.protocol: {honest.stamp}; the lesson ends with speakers apart: add data.protocol={apart}"
        )
    n = len(dataset.utterances)
    test = len(honest.test) / n
    valid = len(honest.valid) / (n - len(honest.test))
    shares = {"test_fraction": test, "valid_fraction": valid}
    by_clips = split_dataset(dataset, _at_random(config.data).model_copy(update=shares), progress)
    targets, seed = np.tile(dataset.targets, 1 + copies), config.data.split_seed
    twice = naive_split(np.tile(np.arange(n), 2), targets, test, valid, seed, TWICE)
    before = naive_split(np.arange((1 + copies) * n), targets, test, valid, seed, BEFORE)
    made = "1 augmented copy" if copies == 1 else f"{copies} augmented copies"
    return [
        Case("0-doubled", "every file twice, clips at random", in_training(twice, n, copies)),
        Case("1-copies", f"{made} made first, then clips at random", before),
        Case("2-random", "clips at random, augmented in training only", in_training(by_clips, n, copies)),
        Case("3-speakers", "speakers apart, augmented in training only", in_training(honest, n, copies), honest=True),
    ]


def _at_random(data: DataConfig) -> DataConfig:
    """The same data with clips drawn at random, nobody named."""
    drawn = {"protocol": "random", "fold": 0, "test_speakers": (), "valid_speakers": (), "test_corpora": ()}
    return data.model_copy(update=drawn)


def naive_split(
    entries: np.ndarray, targets: np.ndarray, test_fraction: float, valid_fraction: float, seed: int, stamp: str
) -> Split:
    """Draws entries of each class at random, as if each were a clip of its own: copies and twins go anywhere.

    Args:
        entries: `(m,)` clips; one that stands twice is drawn twice, and may be in two parts.
        targets: the class of every clip.
        test_fraction: of the entries.
        valid_fraction: of those beside the test part.
        seed: of the draw.
        stamp: what every number says.
    """
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for label in np.unique(targets):
        members = entries[targets[entries] == label]
        order = members[torch.randperm(len(members), generator=generator(seed, "naive split", int(label))).numpy()]
        tested = round(test_fraction * len(order))
        validating = tested + round(valid_fraction * (len(order) - tested))
        for part, chosen in zip(parts, np.split(order, [tested, validating]), strict=True):
            part.extend(chosen.tolist())
    test, valid, train_ = (tuple(sorted(part)) for part in parts)
    return Split(train_, valid, test, stamp, speaker_independent=False, validation_independent=False)


def in_training(split: Split, n: int, copies: int) -> Split:
    """The split with the copies of its training clips beside them, and of no others."""
    copied = [copy * n + clip for copy in range(1 + copies) for clip in split.train]
    return Split(
        tuple(copied), split.valid, split.test, split.stamp, split.speaker_independent,
        split.validation_independent, split.notes,
    )  # fmt: skip


def _train(
    config: Config, bank: Dataset, case: Case, source: BatchSource, folder: Path, memory: Memory, device: torch.device,
    progress: bool,
) -> int | None:  # fmt: skip
    with lock_run_folder(folder):
        run = Run(config, bank.labels, device, pretrained=True)
        remember(run.recognizer.features, memory)
        outcome = train(fit_normalizer(run, case.split, source), bank, case.split, source, folder, progress)
    if outcome.stopped_by is None and not outcome.best:
        raise DivergedError(f"{case.title}: no epoch had a finite score; lower optim.lr")
    return outcome.stopped_by


def _test(
    bank: Dataset, case: Case, source: BatchSource, folder: Path, memory: Memory, device: torch.device
) -> dict[str, Any]:
    predictor = Predictor(folder / BEST, device)
    remember(predictor.recognizer.features, memory)
    clips, adapt = np.asarray(case.split.test), predictor.config.model.adapt
    predictions = predict_clips(predictor, bank, clips, source, adapt)
    scores = evaluate(
        predictions, adapted_stamp(case.split.stamp, predictions.speaker_ids) if adapt else case.split.stamp
    )
    kept = {name: scores[name] for name in ("accuracy", "uar", "macro_f1", "n_clips", "n_speakers", "protocol")}
    sizes = {f"n_{part}": len(getattr(case.split, part)) for part in ("train", "valid", "test")}
    return {"case": case.name, "title": case.title, "honest": case.honest, **kept, **sizes}


def _epochs(count: int) -> str:
    return f"{count} epoch" if count == 1 else f"{count} epochs"


def format_lesson(lesson: dict[str, Any]) -> str:
    """The table of a lesson, and what each number may be called."""
    rows = [
        [case["title"], percent(case["accuracy"]), percent(case["uar"]), case["n_train"], case["n_test"]]
        for case in lesson["cases"]
    ]
    title = f"One recipe, {_epochs(lesson['epochs'])} each, tested as its test part was chosen, %"
    lines = table(title, ["", "accuracy", "UAR", "training", "test clips"], rows)[1:]
    for case in lesson["cases"]:
        lines += wrap(f"  {case['case']}: {case['protocol']}")
    return "\n".join(lines) + "\n"
