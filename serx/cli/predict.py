"""Predict the emotion of audio files.

They may have any sample rate, any number of channels and any format that soundfile reads.
"""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from serx.cli import common

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
        "--json", action="store_true", help="print a list of objects: path, label, probabilities, unlike, error"
    )
    parser.add_argument("audio", nargs="+", metavar="AUDIO_OR_FOLDER", help="audio files, or folders of them")


def main(arguments: argparse.Namespace) -> int:
    """Prints the predictions; returns 1 where a file could not be used."""
    from serx.data.audio import audio_files
    from serx.device import choose_device
    from serx.inference.predictor import Predictor

    paths = audio_files(arguments.audio)
    predictor = Predictor(arguments.checkpoint, choose_device(arguments.device, "--device"))
    voice, unused = predictor.recordings(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{path}: not used for adaptation: {reason}", file=sys.stderr)
    predictions = predictor.predict(paths, voice if arguments.adapt_to else None)
    if arguments.json:
        rows = [
            {
                "path": str(p.path),
                "label": p.told(arguments.min_confidence),
                "probabilities": p.probabilities,
                "unlike": p.unlike,
                "error": p.refused,
            }
            for p in predictions
        ]
        print(json.dumps(rows, indent=2))
    else:
        for prediction in predictions:
            print(table_row(prediction, arguments.min_confidence))
    failed = [p for p in predictions if p.refused]
    for prediction in failed if arguments.json else ():
        print(f"{prediction.path}: {prediction.refused}", file=sys.stderr)
    return 1 if failed or unused else 0


def table_row(prediction: "Prediction", min_confidence: float) -> str:
    """The file, and below it the label and every class from the most probable down.

    A third line names what is unusual about an out-of-distribution recording.
    """
    if prediction.refused:
        return f"{prediction.path}\n    not used: {prediction.refused}"
    ranked = sorted((prediction.probabilities or {}).items(), key=lambda item: -item[1])
    percents = "  ".join(f"{label} {100 * probability:.0f}%" for label, probability in ranked)
    warning = f"\n    UNLIKE the recordings it was trained on: {prediction.unlike}" if prediction.unlike else ""
    return f"{prediction.path}\n    {prediction.told(min_confidence):<10} {percents}{warning}"
