"""The model that ships with serx: its checkpoint without private paths, its figures, and the tables of its model card.

The threshold below which it says `unsure` is chosen on predictions for speakers who were held out from the training
of the model that predicted them, by Chow's rule (1970, "On optimum recognition error and reject tradeoff").
"""

import json
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from serx import checkpoint
from serx.errors import ConfigError, DataError
from serx.evaluation import evaluate
from serx.evaluation.predictions import Predictions, from_csv, join
from serx.evaluation.scores import score_predictions
from serx.files import read_json, to_json, write_atomically
from serx.inference.default_model import CARD, NAME, corpora_of
from serx.inference.predictor import Predictor
from serx.metrics.intervals import clips_by_name
from serx.training.init_from import SOURCES, sources_of

FIGURES = "default.json"
MAX_BYTES = 5_000_000
FITTED = ("ood", "speaker")  # groups of tensors that prediction uses besides the weights
LANGUAGES = {
    "ravdess": "English", "tess": "English", "cremad": "English", "savee": "English", "nemo": "Polish",
    "emovo": "Italian", "emodb": "German", "ased": "Amharic",
}  # fmt: skip
BEGIN, END = "<!-- figures: written by scripts/model_card.py -->", "<!-- end of figures -->"
CLIP_SECONDS, CLIPS = 3.0, 30  # of the timing


def write_card(
    source: Path, held_out: Sequence[Path], unseen: Mapping[str, str], out: Path, cache: str | None, command: str
) -> dict[str, Any]:
    """Writes default.safetensors, default.json and the tables of README.md into `out`; returns the figures.

    Args:
        source: best.safetensors of a run.
        held_out: predictions.csv of `serx cross-validate` or `serx evaluate` for the same recipe: every clip is
            predicted by a model that was not trained on its speaker.
        unseen: corpora that no part of the training has, by name; the model itself is evaluated on them.
        out: the folder with the README.md that has the lines `BEGIN` and `END`.
        cache: the folder for decoded audio.
        command: that is recorded.

    Raises:
        CheckpointError, DataError, LeakError: what is given cannot be used.
        ConfigError: the file would be too large, or README.md lacks the lines.
    """
    card = (out / CARD).read_text(encoding="utf-8")
    if card.count(BEGIN) != 1 or card.count(END) != 1:
        raise ConfigError(f"{out / CARD}: needs the lines {BEGIN} and {END} once; the tables go between them")
    predictions, protocols = read_held_out(held_out)
    min_confidence = choose_min_confidence(predictions)
    with TemporaryDirectory() as folder:
        model = Path(folder) / NAME
        pack(source, model, min_confidence)
        torch.set_num_threads(1)
        predictor = Predictor.load(model, "cpu")
        if predictor.labels != predictions.labels:
            raise DataError(
                f"{held_out[0]}: its labels are {', '.join(predictions.labels)}, those of {source} "
                f"{', '.join(predictor.labels)}; cross-validate the same recipe"
            )
        rows = {
            "protocols": protocols,
            "all": row(predictions, protocols[0], min_confidence),
            "corpora": rows_by_corpus(predictions, protocols[0], min_confidence),
        }
        figures = {
            **facts(predictor, model),
            "min_confidence": min_confidence,
            "held_out": rows,
            "unseen": {name: unseen_row(model, root, cache, min_confidence) for name, root in unseen.items()},
            "latency": latency(predictor),
            "command": command,
        }
        figures = json.loads(to_json(figures))
        content = model.read_bytes()
    head, _, rest = card.partition(BEGIN)
    tail = rest.partition(END)[2]
    write_atomically(out / NAME, content)
    write_atomically(out / FIGURES, to_json(figures))
    write_atomically(out / CARD, f"{head}{BEGIN}\n{tables(figures)}{END}{tail}".encode())
    return figures


def pack(source: Path, target: Path, min_confidence: float) -> None:
    """Copies a checkpoint without folders of the machine that trained it, and with the threshold of `unsure`.

    Speakers and digests of clips stay, so that an evaluation on training speakers is still refused.

    Raises:
        ConfigError: the file would have more than `MAX_BYTES`.
    """
    saved = checkpoint.load_run_checkpoint(source)
    metadata = shareable(saved.metadata) | {"min_confidence": min_confidence}
    weights = saved.group("ema") or saved.group("model")
    tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
    tensors |= {name: tensor for name, tensor in saved.tensors.items() if name.partition(".")[0] in FITTED}
    size = sum(tensor.nbytes for tensor in tensors.values()) + len(json.dumps(metadata))
    if size > MAX_BYTES:
        raise ConfigError(f"{source}: has {size} bytes of weights and metadata, at most {MAX_BYTES} ship; train less")
    checkpoint.save(target, tensors, metadata)
    checkpoint.load_run_checkpoint(target)


def shareable(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a run's checkpoint with corpora and file names in place of folders.

    Sources (`train.init_from`, `train.teachers`) that were trained on nothing but clips of this run's training are
    left out: what is known about the run covers them. The protocol stamp still names them.
    """
    config = _without_folders(metadata["config"])
    config["data"] |= {"root": _corpora(metadata["speakers"]), "cache": None}
    config["train"] |= {"output": None}
    speakers, digests = (set(metadata[key]["train"]) for key in ("speakers", "digests"))
    sources = []
    for source in sources_of(metadata):
        seen = [{name for part in ("train", "valid") for name in source[key][part]} for key in ("speakers", "digests")]
        if not (seen[0] <= speakers and seen[1] <= digests):
            data = _without_folders(source["data"]) | {"root": _corpora(source["speakers"]), "cache": None}
            sources.append({**source, "path": _last_part(source["path"]), "data": data})
    left_out = ("format", "sha256", "duplicates", SOURCES)  # duplicates are files of that machine
    rest = {key: value for key, value in metadata.items() if key not in left_out}
    return {**rest, "config": config, **({SOURCES: sources} if sources else {})}


def _corpora(speakers: Mapping[str, Sequence[str]]) -> list[str]:
    return corpora_of([name for part in speakers.values() for name in part])


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    return _last_part(value) if isinstance(value, str) else value


def _last_part(path: str) -> str:
    """The last part of an absolute path; other text as it is.

    >>> _last_part("/home/ann/noise"), _last_part("openai/whisper-base")
    ('noise', 'openai/whisper-base')
    """
    if path.startswith(("/", "~")):
        return PurePosixPath(path).name
    return PureWindowsPath(path).name if PureWindowsPath(path).is_absolute() else path


def read_held_out(paths: Sequence[Path]) -> tuple[Predictions, list[str]]:
    """Predictions of several files of held-out speakers, and the protocols in the JSON files next to them.

    Raises:
        DataError: a file cannot be read.
    """
    parts, protocols = [], []
    for path in paths:
        for name, columns in (("cross_validation.json", ("seed", "fold")), ("evaluation.json", ())):
            if (path.parent / name).is_file():
                parts += [predictions for _, predictions in from_csv(path, columns)]
                protocols.append(read_json(path.parent / name)["protocol"])
                break
        else:
            raise DataError(f"{path}: needs cross_validation.json or evaluation.json next to it, for its protocol")
    return join(parts), list(dict.fromkeys(protocols))


def choose_min_confidence(predictions: Predictions) -> float:
    """The threshold that maximizes correct minus wrong answers, where `unsure` counts nothing; every corpus weighs 1.

    Below it, an answer is wrong more often than right (Chow 1970, with a rejection at half the cost of an error).

    >>> p = Predictions(("a", "b", "c"), ("x/1",) * 3, (None,) * 3, (None,) * 3, np.array([0, 1, 1]),
    ...                 np.array([[0.9, 0.1], [0.4, 0.6], [0.55, 0.45]]), ("happy", "sad"))
    >>> choose_min_confidence(p)
    0.56
    """
    confidence = predictions.probabilities.max(1)
    gain = np.where(predictions.predicted == predictions.targets, 1.0, -1.0)
    for clips in _clips_by_corpus(predictions).values():
        gain[clips] /= len(clips)
    thresholds = np.arange(100) / 100
    totals = [gain[confidence >= threshold].sum() for threshold in thresholds]
    return float(thresholds[int(np.argmax(np.round(totals, 12)))])


def _clips_by_corpus(predictions: Predictions) -> dict[str, np.ndarray]:
    return clips_by_name([name.partition("/")[0] for name in predictions.speaker_ids])


def _take(predictions: Predictions, clips: np.ndarray) -> Predictions:
    names = ("paths", "speaker_ids", "sexes", "intensities")
    texts = {name: tuple(getattr(predictions, name)[i] for i in clips) for name in names}
    return Predictions(
        **texts,
        targets=predictions.targets[clips],
        probabilities=predictions.probabilities[clips],
        labels=predictions.labels,
    )


def rows_by_corpus(predictions: Predictions, protocol: str, min_confidence: float) -> dict[str, Any]:
    """The row of each corpus, by name."""
    groups = sorted(_clips_by_corpus(predictions).items())
    return {name: row(_take(predictions, clips), protocol, min_confidence) for name, clips in groups}


def row(predictions: Predictions, protocol: str, min_confidence: float) -> dict[str, Any]:
    """The scores of some predictions that the card shows, fractions in [0, 1]."""
    scores = score_predictions(predictions, protocol)
    kept = predictions.probabilities.max(1) >= min_confidence
    correct = predictions.predicted == predictions.targets
    return {
        "n_clips": scores["n_clips"],
        "n_speakers": scores["n_speakers"],
        "uar": scores["uar"],
        "uar_interval": scores["intervals"]["uar"],
        "accuracy": scores["accuracy"],
        "per_sex": scores["per_sex"],
        "recall": {name: value["recall"] for name, value in scores["per_class"].items() if value["support"]},
        "ece": scores["calibration"]["ece"],
        "answered": float(kept.mean()),
        "accuracy_answered": float(correct[kept].mean()) if kept.any() else None,
        "wrong_of_unsure": float(1 - correct[~kept].mean()) if not kept.all() else None,
    }


def unseen_row(model: Path, root: str, cache: str | None, min_confidence: float) -> dict[str, Any]:
    """The row of a corpus that no part of the training has, and the share of its clips that are out of distribution.

    Raises:
        LeakError: it has speakers or clips of the training.
    """
    evaluation = evaluate(model, root, device="cpu", progress=False, cache=cache)
    result = row(evaluation.predictions, evaluation.protocol, min_confidence)
    return {**result, "protocol": evaluation.protocol, "ood_fraction": evaluation.details["ood_fraction"]}


def facts(predictor: Predictor, model: Path) -> dict[str, Any]:
    """What the model is: file, size, labels, training speakers and clips, protocol."""
    metadata = predictor.metadata
    names = metadata["speakers"]["train"]
    return {
        "sha256": metadata["sha256"],
        "bytes": model.stat().st_size,
        "parameters": sum(p.numel() for p in predictor.recognizer.parameters()),
        "labels": list(predictor.labels),
        "protocol": metadata["protocol"],
        "train_clips": len(metadata["digests"]["train"]),
        "train_speakers": {
            corpus: sum(name.startswith(f"{corpus}/") for name in names) for corpus in corpora_of(names)
        },
    }


def latency(predictor: Predictor) -> dict[str, Any]:
    """The median CPU time of one clip at a time on one thread, from samples to a prediction, in milliseconds.

    Other programs on the same cores do not count.
    """
    rate = predictor.config.data.sample_rate
    clip = np.random.default_rng(0).normal(0, 0.05, round(CLIP_SECONDS * rate)).astype(np.float32)
    seconds = []
    for _ in range(CLIPS):
        start = time.process_time()
        predictor.predict_clips([clip])
        seconds.append(time.process_time() - start)
    milliseconds = 1000 * float(np.median(seconds[CLIPS // 3 :]))
    return {
        "milliseconds": round(milliseconds, 1),
        "clip_seconds": CLIP_SECONDS,
        "machine": f"CPU time on one thread, {platform.machine()}, torch {torch.__version__}",
    }


def tables(figures: Mapping[str, Any]) -> str:
    """The figures as the Markdown between `BEGIN` and `END`."""
    f = figures
    speakers = ", ".join(f"{count} of {name}" for name, count in f["train_speakers"].items())
    threshold = f["min_confidence"]
    everyone = f["held_out"]["all"]
    facts = [
        ("file", f"`{NAME}`, {f['bytes'] / 1e6:.2f} MB, {f['parameters']:,} parameters, sha256 {f['sha256'][:16]}"),
        ("emotions", ", ".join(f["labels"])),
        ("trained on", f"{f['train_clips']:,} clips; speakers: {speakers}"),
        ("protocol of its training", f["protocol"]),
        (
            "time",
            f"{f['latency']['milliseconds']:g} ms for a clip of {f['latency']['clip_seconds']:g} s "
            f"({f['latency']['machine']})",
        ),
    ]
    lines = ["", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts)]
    lines += ["", "### New speakers of the corpora it was trained on", ""]
    lines += [f"Protocol: {'; '.join(f['held_out']['protocols'])}.", "", *_corpus_table(f["held_out"]["corpora"])]
    lines += ["", "Recall of each emotion, %, by corpus:", "", *_recall_table(f["labels"], f["held_out"]["corpora"])]
    if f["unseen"]:
        lines += ["", "### Corpora it was not trained on", "", *_corpus_table(f["unseen"]), ""]
        lines += [*_recall_table(f["labels"], f["unseen"])]
        flagged = ", ".join(
            f"{_percent(r['ood_fraction'])} % of {name}"
            for name, r in f["unseen"].items()
            if r["ood_fraction"] is not None
        )
        if flagged:
            lines += ["", f"Reported as unlike the recordings of the training: {flagged}."]
    wrong = everyone["wrong_of_unsure"]
    lines += ["", "### When it does not know", ""]
    lines += [
        f"It says `unsure` where no emotion reaches a probability of {threshold:g}. The threshold was chosen on the "
        "held-out speakers above, as the one with the most correct minus wrong answers; every corpus weighs the same. "
        + ("No clip was below it." if wrong is None else f"Of the clips below it, {_percent(wrong)} % would be wrong.")
    ]
    lines += ["", f"Written by `{f['command']}`; the figures are in [{FIGURES}]({FIGURES}).", ""]
    return "\n".join(lines) + "\n"


def _corpus_table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    head = (
        "| corpus | language | speakers | clips | UAR, % (95 % over speakers) | UAR female | UAR male | accuracy, % |"
    )
    lines = [f"{head} answered, % | accuracy of the answers, % |", "|---|---|---|---|---|---|---|---|---|---|"]
    for name, r in rows.items():
        interval = r["uar_interval"]
        bounds = f" ({_percent(interval[0])} to {_percent(interval[1])})" if interval else ""
        sexes = [_percent(r["per_sex"].get(sex, {}).get("uar")) for sex in ("female", "male")]
        cells = [name, LANGUAGES.get(name, "unknown"), r["n_speakers"], r["n_clips"], f"{_percent(r['uar'])}{bounds}"]
        cells += [*sexes, _percent(r["accuracy"]), _percent(r["answered"]), _percent(r["accuracy_answered"])]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _recall_table(labels: Sequence[str], rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"| corpus | {' | '.join(labels)} |", f"|---|{'---|' * len(labels)}"]
    for name, r in rows.items():
        lines.append(f"| {name} | {' | '.join(_percent(r['recall'].get(label)) for label in labels)} |")
    return lines


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f}"
