"""`Evaluation`: the predictions for one part with all scores, as an object, as a text report and as files.

The order is predictions -> metrics -> report -> plots: `scores` computes the numbers, the text and the figures only
show them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from serx import plots
from serx.errors import DataError, DiskError
from serx.evaluation.corpora import probe_line
from serx.evaluation.predictions import Predictions, to_csv
from serx.evaluation.ratings import Ratings, rating_tables, ratings_csv, ratings_head, score_ratings
from serx.evaluation.scores import score_predictions, worst_first
from serx.evaluation.tables import count, percent
from serx.files import plain, to_json, why_not_written, write_atomically
from serx.metrics import calibration_counts
from serx.metrics.intervals import few_speakers_warning
from serx.terminal import WIDTH, Block, Table, as_text, printable, wrap

EVALUATION, PREDICTIONS, RATINGS = "evaluation.json", "predictions.csv", "ratings.csv"  # the files of `write`
SCORES = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}


@dataclass(frozen=True)
class Evaluation:
    """The predictions for one part, and everything that is computed from them.

    Attributes:
        predictions: of the n clips: `probabilities` (n, C), `targets` (n,), speakers, paths; None for a model of
            dimensions alone.
        protocol: the protocol stamp: who trained and who tests, in words.
        details: further entries of evaluation.json, such as checkpoint, part and warnings.
        notes: lines for the user about the data.
        ratings: values (n, D) of the dimensions, as rated and as predicted; None for a model of emotions alone.

    >>> predictions = Predictions(("a.wav", "b.wav"), ("ann", "ben"), (None, None), (None, None), np.array([0, 1]),
    ...                           np.array([[0.9, 0.1], [0.6, 0.4]]), ("happy", "sad"))
    >>> evaluation = Evaluation(predictions, "kfold fold 0, speaker-independent")
    >>> evaluation.uar, evaluation.confusion.tolist()
    (0.5, [[1, 0], [1, 0]])
    >>> print(evaluation.report()[:73])
    2 clips of 2 speakers
    protocol: kfold fold 0, speaker-independent
    <BLANKLINE>
    Scores
    """

    predictions: Predictions | None
    protocol: str
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ratings: Ratings | None = None

    @cached_property
    def scores(self) -> dict[str, Any]:
        """The content of evaluation.json: all scores, fractions in [0, 1], then the details.

        Raises:
            ValueError: a detail has the name of a score.
        """
        scores = {} if self.predictions is None else score_predictions(self.predictions, self.protocol)
        if self.ratings is not None:
            scores = {
                **(scores or ratings_head(self.ratings, self.protocol)),
                "dimensions": score_ratings(self.ratings),
            }
        if taken := sorted(scores.keys() & self.details.keys()):
            raise ValueError(f"details would overwrite {taken} of the evaluation; rename them")
        return plain({**scores, **self.details})

    @property
    def uar(self) -> float:
        """Unweighted average recall, the mean recall of the emotions that have clips; a fraction from 0 to 1.

        Raises:
            DataError: the model predicts no emotions.
        """
        return self._score("uar")

    @property
    def ccc(self) -> float:
        """The mean concordance correlation coefficient of the dimensions, from -1 to 1.

        Raises:
            DataError: the model predicts no dimensions.
        """
        return self._score("dimensions")["mean"]["ccc"]

    def _score(self, name: str) -> Any:
        if name not in self.scores:
            task = "dimensions" if name == "dimensions" else "emotions"
            raise DataError(f"this model predicts no {task}, so there is no such score; see data.tasks")
        return self.scores[name]

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, from 0 to 1.

        Raises:
            DataError: the model predicts no emotions.
        """
        return self._score("accuracy")

    @property
    def confusion(self) -> np.ndarray:
        """Counts of clips (C, C) int64; rows are true emotions, columns predicted ones, as in `predictions.labels`.

        Raises:
            DataError: the model predicts no emotions.
        """
        return np.array(self._score("confusion"))

    def report(self) -> str:
        """The scores as text tables for a terminal of 100 columns."""
        return format_report(self.scores)

    def write(self, folder: str | Path, epochs: Sequence[Mapping[str, Any]] = (), figures: bool = True) -> Path:
        """Writes evaluation.json, predictions.csv and the figures into a folder, and ratings.csv of dimensions.

        The figures are confusion.png, report.png, speakers.png and calibration.png, and curves.png where `epochs` are
        given. Without emotions there are only curves.png, ratings.csv and evaluation.json. Each file is replaced whole
        or not at all; evaluation.json comes last, so it is there only if all are.

        Args:
            folder: created if it is missing.
            epochs: the lines of the run's metrics.jsonl.
            figures: False leaves them out.

        Returns:
            The path of evaluation.json.

        Raises:
            DiskError: a file cannot be written.
        """
        out, scores = Path(folder), self.scores
        files = self._pictures(self.predictions) if figures and self.predictions is not None else {}
        if epochs and figures:
            title = f"Learning curves [{printable(epochs[-1]['protocol'])}]"
            files["curves.png"] = plots.figure_png(plots.curves_figure(epochs, title))
        if self.predictions is not None:
            files[PREDICTIONS] = to_csv([((), self.predictions)])
        if self.ratings is not None:
            files[RATINGS] = ratings_csv([((), self.ratings)])
        files[EVALUATION] = to_json(scores)
        write_files(out, files)
        return out / EVALUATION

    def _pictures(self, predictions: Predictions) -> dict[str, bytes]:
        scores, protocol = self.scores, self.protocol
        chance = 1 / np.count_nonzero(self.confusion.sum(1))
        with_class = predictions.with_class()
        counts = calibration_counts(with_class.targets, with_class.probabilities)
        uar, ece = f"UAR {100 * self.uar:.1f} %", f"ECE {100 * scores['calibration']['ece']:.1f} %"
        figures = {
            "confusion.png": plots.confusion_figure(
                self.confusion, predictions.labels, f"Confusion matrix, {uar} [{protocol}]"
            ),
            "speakers.png": plots.speakers_figure(scores["per_speaker"], chance, f"Speakers, {uar} [{protocol}]"),
            "report.png": plots.report_figure(scores, f"Classification report, {uar} [{protocol}]"),
            "calibration.png": plots.calibration_figure(counts, f"Calibration, {ece} [{protocol}]"),
        }
        return {name: plots.figure_png(figure) for name, figure in figures.items()}


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder, in order, each replaced whole or not at all.

    Raises:
        DiskError: a file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(out / name, content)
    except OSError as error:
        raise DiskError(f"cannot write the report into {out}: {why_not_written(error, out)}") from error


def format_report(scores: Mapping[str, Any]) -> str:
    """The text report of `Evaluation.scores` or of evaluation.json."""
    return as_text(report_blocks(scores))


def report_blocks(scores: Mapping[str, Any]) -> list[Block]:
    """The same report as lines and tables."""
    return [*report_head(scores), *report_tables(scores)]


def report_head(scores: Mapping[str, Any]) -> list[str]:
    """Lines with checkpoint, part, clips, speakers, protocol and warnings."""
    source = [str(scores[key]) for key in ("checkpoint", "part") if scores.get(key)]
    speakers = count(scores["n_speakers"], "speaker") if scores["n_speakers"] else "unknown speakers"
    clips = f"{count(scores['n_clips'], 'clip')} of {speakers}"
    head = [f"{', '.join(source)}: {clips}" if source else clips, f"protocol: {scores['protocol']}"]
    head += [f"warning: {warning}" for warning in scores.get("warnings") or []]
    return [line for entry in head for line in wrap(entry)]


def report_tables(scores: Mapping[str, Any]) -> list[Block]:
    """Lines with the scores and their intervals, then a table for each view of them."""
    e = scores
    dimensions = rating_tables(e["dimensions"]) if "dimensions" in e else []
    if "uar" not in e:
        return [*dimensions, *_detection(e)]
    return [
        *_summary(e),
        _classes(e),
        *_confusion(e),
        _selective(e),
        _speakers(e),
        *_groups(e),
        *dimensions,
    ]


def _summary(e: Mapping[str, Any]) -> list[str]:
    speakers = count(e["n_speakers"], "speaker")
    over = (
        f"with 95 % intervals over {speakers}"
        if e["n_speakers"] > 1
        else f"without intervals, because {'there is one speaker' if e['n_speakers'] else 'the speakers are unknown'}"
    )
    lines = ["", f"Scores, {over}"]
    for name, title in SCORES.items():
        bounds = e["intervals"][name]
        interval = f"  ({100 * bounds[0]:.1f} to {100 * bounds[1]:.1f})" if bounds else ""
        lines += [f"  {title:<12}{percent(e[name])} %{interval}"]
    lines += wrap(f"  {classes_that_count(e)}")
    lines += [line for entry in vote_lines(e) for line in wrap(f"  {entry}")]
    if warning := few_speakers_warning(e["n_speakers"]):
        lines += wrap(f"  {warning}")
    if plain_scores := e.get("without_adaptation"):
        uar, accuracy = (percent(plain_scores[name]).strip() for name in ("uar", "accuracy"))
        lines += wrap(f"  without speaker adaptation: UAR {uar} %, accuracy {accuracy} %")
    calibration = e["calibration"]
    nll, brier, ece = calibration["nll"], calibration["brier"], 100 * calibration["ece"]
    lines += [f"  calibration: NLL {nll:.3f} nats, Brier {brier:.3f}, ECE {ece:.1f} %"]
    if "calibration_before" in e:
        nll, ece = e["calibration_before"]["nll"], 100 * e["calibration_before"]["ece"]
        scaling = f"before temperature scaling (T = {e['temperature']:.2f})"
        lines += [f"  {scaling}: NLL {nll:.3f} nats, ECE {ece:.1f} %"]
    return lines + _detection(e)


def _detection(e: Mapping[str, Any]) -> list[str]:
    """Which clips differ from those of training, and what the embedding tells of their corpus."""
    lines = []
    if e.get("corpus_probe"):
        lines += wrap(f"  {probe_line(e['corpus_probe'])}")
    if e.get("ood_fraction") is not None:
        lines += [f"  clips flagged as out-of-distribution: {percent(e['ood_fraction']).strip()} %"]
    if e.get("ood_unknown"):
        lines += wrap(f"  whether other clips are out-of-distribution is {e['ood_unknown']}")
    return lines


def vote_lines(e: Mapping[str, Any]) -> list[str]:
    """How well the votes of the raters are met, and what a single rater scores; empty for labels without votes."""
    votes = e.get("votes")
    if votes is None:
        return []

    def interval(bounds: Sequence[float] | None, scale: float, digits: int) -> str:
        return "" if bounds is None else f" ({scale * bounds[0]:.{digits}f} to {scale * bounds[1]:.{digits}f})"

    tied = count(votes["tied"], "clip")
    ties = f" The votes of {tied} tie: without a class, they count in no score of classes." if votes["tied"] else ""
    lines = [
        f"The true emotion of a clip is that of most of its raters.{ties}",
        f"Divergence from the shares of votes: KL {votes['kl']:.3f} nats{interval(votes['kl_interval'], 1, 3)}; "
        f"their mean over all clips as the prediction: {votes['kl_of_mean']:.3f}",
    ]
    rater = votes["rater"]
    if rater is None:
        return [*lines, "What a single rater scores is unknown: the votes are no numbers of two raters or more"]

    def uar_and_accuracy(scores: Mapping[str, float], bounds: str = "") -> str:
        return f"UAR {percent(scores['uar']).strip()} %{bounds}, accuracy {percent(scores['accuracy']).strip()} %"

    own = uar_and_accuracy(rater, interval(rater["intervals"]["uar"], 100, 1))
    return [
        *lines,
        f"A single rater, left out, against most of the others ({count(rater['n_clips'], 'clip')}): {own}; the model "
        f"against the same: {uar_and_accuracy(rater['model'])}",
    ]


def classes_that_count(e: Mapping[str, Any]) -> str:
    """Which classes UAR and macro F1 are means over."""
    absent = [label for label, row in e["per_class"].items() if not row["support"]]
    present = len(e["per_class"]) - len(absent)
    if not absent:
        return f"UAR and macro F1 are means over all {present} emotions."
    emotions = "emotion that has" if present == 1 else "emotions that have"
    return f"UAR and macro F1 are means over the {present} {emotions} clips, without {', '.join(absent)}."


def _classes(e: Mapping[str, Any]) -> Table:
    rows = [
        [label, *map(percent, (row["precision"], row["recall"], row["f1"])), row["support"]]
        for label, row in e["per_class"].items()
    ]
    return Table("By emotion, %", ["", "precision", "recall", "F1", "clips"], rows)


def _confusion(e: Mapping[str, Any]) -> list[Block]:
    labels = e["labels"]
    room = WIDTH - 2 - max(len(label[:16]) for label in labels)
    shown = room // (2 + max(5, *(len(label[:9]) for label in labels)))  # columns that fit the terminal
    lines: list[Block] = []
    for start in range(0, len(labels), shown):
        rows = []
        for label, counts in zip(labels, e["confusion"], strict=True):
            total = sum(counts)
            cells = [percent(clips / total) if total else "-" for clips in counts[start : start + shown]]
            rows.append([label[:16], *cells])
        header = ["", *(label[:9] for label in labels[start : start + shown])]
        lines.append(Table("Confusion matrix: predictions in columns, % of each true emotion", header, rows))
    return lines


def _selective(e: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{row['confidence']:.1f}",
            percent(row["coverage"]),
            "-" if row["accuracy"] is None else percent(row["accuracy"]),
        ]
        for row in e["selective"]
    ]
    title = "Selective prediction: clips kept and accuracy at each --min-confidence, %"
    return Table(title, ["", "kept", "accuracy"], rows)


def _speakers(e: Mapping[str, Any]) -> Table:
    groups = e["per_speaker"]
    rows = [[name, groups[name]["sex"] or "-", *_scores(groups[name])] for name in worst_first(groups)]
    return Table("By speaker, worst first, %", ["", "sex", "UAR", "accuracy", "clips"], rows, left=(0, 1))


def _groups(e: Mapping[str, Any]) -> list[Block]:
    lines: list[Block] = []
    if len(e.get("per_corpus", {})) > 1:
        rows = [[name, *_scores(group), group["n_speakers"] or "-"] for name, group in e["per_corpus"].items()]
        lines.append(Table("By corpus, %", ["", "UAR", "accuracy", "clips", "speakers"], rows))
    if e["per_sex"]:
        rows = [[name, *_scores(group), group["n_speakers"]] for name, group in e["per_sex"].items()]
        lines.append(Table("By sex, %", ["", "UAR", "accuracy", "clips", "speakers"], rows))
    if e["sex_gap_accuracy"] is not None:
        lines += [f"  male minus female: {e['sex_gap_accuracy']:+.1f} points of accuracy"]
    if e["per_intensity"]:
        rows = [[name, *_scores(group)] for name, group in e["per_intensity"].items()]
        lines.append(Table("By intensity, %", ["", "UAR", "accuracy", "clips"], rows))
    return lines


def _scores(group: Mapping[str, Any]) -> list[str]:
    return [percent(group["uar"]), percent(group["accuracy"]), str(group["n_clips"])]
