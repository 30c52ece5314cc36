"""Predict the emotion of audio files.

They may have any sample rate, any number of channels and any format that soundfile reads.
"""

import argparse
import json
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from serx.cli import common
from serx.terminal import printable

if TYPE_CHECKING:
    from serx.inference.predictor import Prediction

EXAMPLES = """  %(prog)s --checkpoint checkpoints/cnn1d/RUN/best.safetensors me.wav
  %(prog)s --checkpoint best.safetensors --json recordings/ > emotions.json
  %(prog)s --checkpoint best.safetensors --adapt-to my_recordings/ --min-confidence 0.6 me.wav"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the files, and the form of the output."""
    common.add_model(parser)
    common.add_min_confidence(parser)
    common.add_device(parser)
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a list of objects: path, label, confidence, probabilities, ood, error",
    )
    parser.add_argument("audio", nargs="+", metavar="AUDIO_OR_FOLDER", help="audio files, or folders of them")


def main(arguments: argparse.Namespace) -> int:
    """Prints the predictions; returns 1 where a file could not be used."""
    from serx.data.audio import audio_files
    from serx.device import choose_device
    from serx.inference.adaptation import adapted
    from serx.inference.predictor import Predictor

    paths = audio_files(arguments.audio)
    device = choose_device(arguments.device, "--device")
    predictor = Predictor.load(arguments.checkpoint, device, arguments.min_confidence)
    clips, unused = predictor.adaptation_clips(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{printable(path)}: not used for adaptation: {printable(reason)}", file=sys.stderr)
    with adapted(predictor.recognizer, clips) if arguments.adapt_to else nullcontext():
        predictions = predictor(paths)
    if arguments.json:
        print(json.dumps([prediction.as_dict() for prediction in predictions], indent=2))
    else:
        for prediction in predictions:
            print(table_row(prediction))
    failed = [p for p in predictions if p.error]
    for prediction in failed if arguments.json else ():
        print(f"{printable(prediction.path)}: {printable(prediction.error)}", file=sys.stderr)
    return 1 if failed or unused else 0


def table_row(prediction: "Prediction") -> str:
    """The file, and below it the label and every class from the most probable down.

    A third line names what is unusual about an out-of-distribution recording.
    """
    path = printable(prediction.path)
    if prediction.error:
        return f"{path}\n    not used: {printable(prediction.error)}"
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    percents = "  ".join(f"{label} {100 * probability:.0f}%" for label, probability in ranked)
    warning = f"\n    unlike the recordings it was trained on: {prediction.ood}" if prediction.ood else ""
    return f"{path}\n    {prediction.label:<10} {percents}{warning}"
