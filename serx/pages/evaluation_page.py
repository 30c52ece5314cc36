"""The page of an evaluation or a cross-validation: what its files say, as one HTML file."""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serx.data.batches import BatchSource
from serx.evaluation.corpora import probe_line
from serx.evaluation.cross_validation_report import NOT_POOLED
from serx.evaluation.predictions import Predictions
from serx.evaluation.report import SCORES, classes_that_count, vote_lines
from serx.evaluation.scores import worst_first
from serx.files import read_json
from serx.metrics import calibration_counts
from serx.models.layers import output_layers
from serx.pages.charts import Line, interval_chart, line_chart, scatter
from serx.pages.clip_map import chosen_clips, embeddings, flat_map
from serx.pages.clips import Mistake
from serx.pages.sections import Absent, Reproduction, render_results
from serx.plots.experiments import LARGE_LOSS
from serx.plots.style import EMOTION_COLORS, OTHER_COLORS, emotion_color
from serx.recognizer import Recognizer

# Entries of the scores, with their titles and what is said where no clip has a value.
GROUPS = {
    "per_sex": ("Sex", "Unknown: the clips say no sex. A table of clips says it in a column `sex`."),
    "per_corpus": ("Corpus", "Unknown: the clips say no corpus. A table of clips says it in a column `corpus`."),
    "per_intensity": ("Intensity", "Unknown: the clips say none. A table of clips says it in a column `intensity`."),
}
MAX_ROWS = 500  # of a table of speakers or groups
MAX_MATRIX = 60  # emotions of a confusion matrix; of more, pairs are listed
MAX_PAIRS = 50
MAX_NAMES = 30  # in the legend of a map
CURVE_POINTS = 200  # of a chart of coverage
LEAST_COVERAGE = 0.02  # the accuracy of fewer clips says little
# Of a map, where emotions have no colors of their own: Tol's bright scheme, and more.
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee8833", "#888888", "#8855dd", "#44aa99")
STRESS = "stress.json"
ROUNDING = 1e-9  # of a UAR


def evaluation_page(
    scores: Mapping[str, Any],
    predictions: Predictions,
    title: str,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    stress: Sequence[Mapping[str, Any]] = (),
    clip_map: Mapping[str, Any] | None = None,
    mistakes: Sequence[Mistake] = (),
    reproduction: Reproduction | None = None,
    absent: Mapping[str, Absent] | None = None,
    stress_note: str = "",
    rated: Mapping[str, Any] | None = None,
) -> str:
    """The page. A section without content says why, and how to get it.

    Args:
        scores: the content of evaluation.json or of cross_validation.json.
        predictions: of all clips.
        title: the heading.
        curves: name of a run -> the lines of its metrics.jsonl.
        stress: of `stress_of`.
        clip_map: of `map_of_clips`.
        mistakes: of `serx.pages.clips.confident_mistakes`.
        reproduction: of the page.
        absent: what is said where the sections `curves`, `stress` and `map` and the `saliency` of the mistakes are
            empty; default: sentences that hold for any page.
        stress_note: a sentence above the stress test.
        rated: of `serx.pages.ratings_page.ratings_section`, for a model that predicts dimensions, too.
    """
    chance = 1 / np.count_nonzero(np.array(scores["confusion"]).sum(1))
    return render_results(
        "evaluation.html.j2",
        {"without_adaptation": None, "calibration_before": None, **scores},
        title,
        curves,
        reproduction,
        absent,
        score_names=SCORES,
        classes_that_count=classes_that_count(scores),
        votes=vote_lines(scores),
        probe_line=probe_line(scores["corpus_probe"]) if scores.get("corpus_probe") else None,
        chance=chance,
        uar_chart=interval_chart(scores["uar"], scores["intervals"]["uar"], chance),
        not_pooled=[f"{title}: {entry}" for key, title in NOT_POOLED.items() for entry in scores.get(key) or []],
        speakers=[
            {"name": name, **scores["per_speaker"][name], "extra": scores["per_speaker"][name]["sex"] or "–"}
            for name in worst_first(scores["per_speaker"])
        ],
        groups=_groups(scores),
        rated=rated,
        max_rows=MAX_ROWS,
        confused=_confused(scores) if len(scores["labels"]) > MAX_MATRIX else [],
        reliability=_reliability(predictions.with_class()),
        coverage=_coverage(predictions.with_class()),
        stress=stress,
        stress_note=stress_note,
        large_loss=LARGE_LOSS,
        map=clip_map,
        mistakes=mistakes,
    )


def map_of_clips(
    recognizer: Recognizer, source: BatchSource, clips: np.ndarray, predictions: Predictions, note: str = ""
) -> dict[str, Any] | None:
    """The map for a page: its chart, and the colors and names of emotions, speakers and sexes; None for few clips.

    Args:
        recognizer: whose embeddings are shown.
        source: holds the audio.
        clips: `(n,)`, in the order of the predictions.
        predictions: of these clips.
        note: a sentence for the page.
    """
    chosen = chosen_clips(len(clips))
    places = flat_map(embeddings(recognizer, source, clips[chosen]))
    if places is None:
        return None
    p, predicted = predictions, predictions.predicted
    wrong = (predicted != p.targets) & ~p.tied
    of_clips = {
        "emotion": [p.labels[target] for target in p.targets[chosen]],
        "speaker": [p.speaker_ids[i] for i in chosen],
        "sex": [p.sexes[i] or "unknown" for i in chosen],
    }
    names = {kind: list(p.labels) if kind == "emotion" else sorted(set(of)) for kind, of in of_clips.items()}
    css, titles = [], []
    for row, i in enumerate(chosen):
        classes = [f"{kind}{names[kind].index(of[row])}" for kind, of in of_clips.items()]
        css.append(" ".join(classes + ["wrong"] * bool(wrong[i])))
        titles.append(f"{Path(p.paths[i]).name}: {p.labels[p.targets[i]]}, predicted {p.labels[predicted[i]]}")
    left_out = f", {len(chosen)} of {len(p.paths)} clips" if len(chosen) < len(p.paths) else ""
    what = "what its last layer reads" if output_layers(recognizer) else "its log-probabilities"
    return {
        "chart": scatter([(float(x), float(y)) for x, y in places], css, titles),
        "colors": {kind: _colors(of, kind) for kind, of in names.items()},
        "names": {
            kind: of if len(of) <= MAX_NAMES else [*of[:MAX_NAMES], f"and {len(of) - MAX_NAMES} more"]
            for kind, of in names.items()
        },
        "note": f"Clips that the model finds alike are near each other: t-SNE of {what}{left_out}. {note}".strip(),
    }


def stress_of(folders: Sequence[Path], scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The conditions of the first stress.json in these folders that is of the same evaluation; empty without one."""
    for folder in folders:
        try:
            result = read_json(folder / STRESS)
            same = [result[key] == scores[key] for key in ("part", "protocol", "n_clips", "n_speakers")]
            if all(same) and abs(result["conditions"][0]["uar"] - scores["uar"]) < ROUNDING:
                return [_condition(row) for row in result["conditions"]]
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            continue
    return []


def _condition(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of stress.json; raises an error if it is not what serx writes."""
    name = ", ".join(str(row[key]) for key in ("condition", "strength") if row[key])
    interval = None if row["interval"] is None else [float(bound) for bound in row["interval"]]
    return {"name": name, "uar": float(row["uar"]), "change": float(row["change"]), "interval": interval}


def _groups(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups = []
    for key, (title, unknown) in GROUPS.items():
        rows = [{"name": name, **row, "extra": row.get("n_speakers", "") or "–"} for name, row in scores[key].items()]
        extra = "speakers" if rows and "n_speakers" in rows[0] else ""
        groups.append({"title": title, "rows": rows, "extra": extra, "unknown": unknown})
    return groups


def _confused(scores: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The wrong pairs of true and predicted emotion with the most clips."""
    counts = np.array(scores["confusion"])
    np.fill_diagonal(counts, 0)
    labels = scores["labels"]
    worst = np.argsort(-counts, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [divmod(int(i), len(labels)) for i in worst if counts.flat[i]]
    return [
        {"target": labels[row], "predicted": labels[column], "clips": int(counts[row, column])} for row, column in pairs
    ]


def _reliability(p: Predictions) -> Any:
    counts = calibration_counts(p.targets, p.probabilities)
    width = 100 / len(counts)
    filled = [(i, *row) for i, row in enumerate(counts) if row[0]]
    bars = [(i * width, (i + 1) * width, 100 * correct / clips) for i, clips, _, correct in filled]
    means = [(100 * confidence / clips, 100 * correct / clips) for _, clips, confidence, correct in filled]
    lines = [Line([(0, 0), (100, 100)], "chance"), Line(means, "valid", marks=True)]
    return line_chart(lines, "confidence, %", "accuracy, %", (0, 100), (0, 100), bars=bars)


def _coverage(p: Predictions) -> Any:
    """Accuracy of the most confident predictions, over the share of clips that they are."""
    confidence, correct = p.probabilities.max(1), p.predicted == p.targets
    order = np.argsort(-confidence, kind="stable")
    # Clips of equal confidence are kept together: a threshold cannot tell them apart.
    last = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True))
    kept = last + 1
    accuracy = np.cumsum(correct[order])[last] / kept
    shown = kept >= LEAST_COVERAGE * len(order)
    points = np.stack([100 * kept / len(order), 100 * accuracy], 1)[shown]
    points = points[np.unique(np.linspace(0, len(points) - 1, CURVE_POINTS).round().astype(int))]
    lines = [Line([(float(x), float(y)) for x, y in points], "train")]
    return line_chart(lines, "clips kept, %", "accuracy, %", (0, 100), (0, 100))


def _colors(names: Sequence[str], kind: str) -> list[str]:
    """Colors that differ: those of the emotions, a fixed list, or hues at equal distances if that is too short."""
    number = len(names)
    if kind == "emotion" and sum(name not in EMOTION_COLORS for name in names) <= len(OTHER_COLORS):
        return [emotion_color(name, names) for name in names]
    if number <= len(COLORS):
        return list(COLORS[:number])
    shades = [colorsys.hls_to_rgb(i / number, (0.45, 0.6)[i % 2], 0.65) for i in range(number)]
    return ["#" + "".join(f"{round(255 * channel):02x}" for channel in shade) for shade in shades]
