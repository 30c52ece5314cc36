"""Predict the emotion of audio files.

They may have any sample rate, any number of channels and any format that libsndfile or FFmpeg reads, videos included. A
recording that is longer than data.max_seconds of the model (60 s) is cut at its pauses: it gets a mean over its
segments, and a row for each.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from serx.cli.options import add_channel, add_device, add_min_confidence, add_model, load_predictor
from serx.cli.output import add_json, print_json
from serx.errors import DataError
from serx.terminal import Block, ProgressBar, Table, bar, is_terminal, printable, show

if TYPE_CHECKING:
    from serx.inference.prediction import Prediction

EXAMPLES = """  %(prog)s me.wav                                          (with the model that ships with serx)
  %(prog)s --checkpoint checkpoints/cnn1d/RUN/best.safetensors me.wav
  %(prog)s --checkpoint best.safetensors --json recordings/ > emotions.json
  %(prog)s --checkpoint best.safetensors --adapt-to my_recordings/ --min-confidence 0.6 me.wav"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the files, and the form of the output."""
    add_model(parser)
    add_min_confidence(parser)
    add_channel(parser)
    add_device(parser)
    add_json(
        parser,
        "a list of objects: path, label, confidence, probabilities, dimensions (of a model that predicts some), ood, "
        "error, warning, and the segments of a long recording, which have start and end (s) and no path",
    )
    parser.add_argument("audio", nargs="+", metavar="AUDIO_OR_FOLDER", help="audio files, or folders of them")


def main(arguments: argparse.Namespace) -> int:
    """Prints the predictions; returns 1 where a file could not be used."""
    from serx.data.audio.paths import audio_files
    from serx.device import choose_device
    from serx.inference.adaptation import adapted
    from serx.inference.predictor import BATCH

    passed_over: dict[Path, str] = {}
    paths, empty_folders = files_and_empty_folders(arguments.audio, passed_over)
    device = choose_device(arguments.device, "--device")
    predictor = load_predictor(arguments, device, arguments.min_confidence, arguments.channel)
    clips, unused = predictor.adaptation_clips(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{printable(path)}: not used for adaptation: {printable(reason)}", file=sys.stderr)
    with adapted(predictor.recognizer, clips) if arguments.adapt_to else nullcontext():
        predictions: list[Prediction] = []
        with ProgressBar("predict", len(paths), "recordings") as progress:
            for start in range(0, len(paths), BATCH):
                batch = paths[start : start + BATCH]
                predictions += predictor(batch)
                progress.update(len(batch))
        predictions += empty_folders
    if arguments.json:
        print_json(arguments, [prediction.as_dict() for prediction in predictions])
    else:
        show(drawn(predictions) if is_terminal(sys.stdout) else map(table_row, predictions))
        if predictor.ood_unknown and not all(prediction.error for prediction in predictions):
            print(f"note: unlike the recordings it was trained on? {predictor.ood_unknown}", file=sys.stderr)
    failed = [p for p in predictions if p.error or any(segment.error for segment in p.segments)]
    for path, reason in passed_over.items():
        print(f"{printable(path)}: passed over: {printable(reason)}", file=sys.stderr)
    for prediction in failed if arguments.json else ():
        reason = prediction.error or "some of its segments have no prediction"
        print(f"{printable(prediction.path)}: {printable(reason)}", file=sys.stderr)
    return 1 if failed or unused else 0


def files_and_empty_folders(
    audio: Sequence[str], passed_over: dict[Path, str]
) -> tuple[list[Path], list["Prediction"]]:
    """The audio files that are named or in folders, and a prediction with an error for each folder without any.

    `passed_over` gets the other files in the folders, with the reasons.

    Raises:
        DataError: there are only such folders.
    """
    from serx.data.audio.paths import audio_files
    from serx.inference.prediction import Prediction

    paths: list[Path] = []
    empty: list[Prediction] = []
    for name in audio:
        try:
            paths += audio_files([name], passed_over)
        except DataError as error:
            if len(empty) + 1 == len(audio):
                raise
            empty.append(Prediction(path=Path(name), error=str(error).removeprefix(f"{Path(name)}: ")))
    return paths, empty


def drawn(predictions: Sequence["Prediction"]) -> list[Block]:
    """Tables for a terminal: of a single recording a bar for each emotion, else a row for each; rows for segments."""
    if len(predictions) > 1 or not predictions[0].probabilities:
        rows = [row for prediction in predictions for row in _rows(prediction)]
        return [Table("Predictions", ("recording", "emotion", "probabilities"), rows, left=(0, 1, 2))]
    [prediction] = predictions
    blocks: list[Block] = [_bars(prediction), *(f"  {remark}" for remark in _remarks(prediction))]
    if prediction.segments:
        title = f"Its {len(prediction.segments)} segments, of which these are the mean"
        rows = [_segment_row(segment) for segment in prediction.segments]
        blocks.append(Table(title, ("seconds", "emotion", "probabilities"), rows, left=(0, 1, 2)))
    return blocks


def _bars(prediction: "Prediction") -> Table:
    rows = [[label, f"{100 * p:.0f} %", bar(p)] for label, p in _ranked(prediction)]
    rows += [[name, f"{value:.2f}", ""] for name, value in prediction.dimensions.items()]
    return Table(f"{prediction.path}: {prediction.label}", ("", "", ""), rows, left=(0, 2))


def _rows(prediction: "Prediction") -> Iterator[list[str]]:
    path = str(prediction.path)
    if prediction.error:
        yield [path, "-", f"not used: {prediction.error}"]
        return
    yield [path, prediction.label or "-", "  ".join(_percents(prediction))]
    yield from (["", "", remark] for remark in _remarks(prediction))
    yield from map(_segment_row, prediction.segments)


def _segment_row(segment: "Prediction") -> list[str]:
    times = f"{segment.start:7.1f} to {segment.end:5.1f} s"
    if segment.error:
        return [times, "-", f"not used: {segment.error}"]
    return [times, segment.label or "-", "  ".join(_percents(segment))]


def _remarks(prediction: "Prediction") -> list[str]:
    """What is unusual about a recording."""
    warnings = [f"warning: {prediction.warning}"] if prediction.warning else []
    return warnings + [f"unlike the recordings it was trained on: {prediction.ood}"] * bool(prediction.is_ood)


def table_row(prediction: "Prediction") -> str:
    """The file, and below it the label and every class from the most probable down, then a row for each segment.

    Another line names what is unusual about an out-of-distribution recording.
    """
    path = printable(prediction.path)
    if prediction.error:
        return f"{path}\n    not used: {printable(prediction.error)}"
    lines = [path, f"    {label_and_percents(prediction)}"]
    lines += [f"    {printable(remark)}" for remark in _remarks(prediction)]
    if prediction.segments:
        lines.append(f"    the mean of {len(prediction.segments)} segments:")
    for segment in prediction.segments:
        row = f"not used: {printable(segment.error)}" if segment.error else label_and_percents(segment)
        lines.append(f"    {segment.start:7.1f} to {segment.end:5.1f} s   {row}")
    return "\n".join(lines)


def label_and_percents(prediction: "Prediction") -> str:
    """The label, the probability of every class from the most probable down, then the value of every dimension."""
    return (f"{prediction.label:<10} " if prediction.label else "") + "  ".join(_percents(prediction))


def _percents(prediction: "Prediction") -> list[str]:
    words = [f"{label} {100 * probability:.0f}%" for label, probability in _ranked(prediction)]
    return words + [f"{name} {value:.2f}" for name, value in prediction.dimensions.items()]


def _ranked(prediction: "Prediction") -> list[tuple[str, float]]:
    return sorted(prediction.probabilities.items(), key=lambda item: -item[1])
