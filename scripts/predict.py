#!/usr/bin/env python3
"""Tell the emotion in audio files: any rate, any number of channels, any format soundfile reads."""

import json
import sys

from serx.cli import common as commands


def main(arguments) -> int:
    from serx.data.audio import audio_files
    from serx.device import choose_device
    from serx.inference.predictor import Predictor

    paths = audio_files(arguments.audio)
    predictor = Predictor(arguments.checkpoint, choose_device(arguments.device, "--device"))
    voice, unused = predictor.recordings(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{path}: not used for the voice: {reason}", file=sys.stderr)
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
            print(row(prediction, arguments.min_confidence))
    failed = [p for p in predictions if p.refused]
    for prediction in failed if arguments.json else ():
        print(f"{prediction.path}: {prediction.refused}", file=sys.stderr)
    return 1 if failed or unused else 0


def row(prediction, min_confidence: float) -> str:
    """Two lines of the table: the file; what is told of it, then every class from the likeliest down.

    A third where the recording is unlike training's.
    """
    if prediction.refused:
        return f"{prediction.path}\n    not used: {prediction.refused}"
    ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
    shares = "  ".join(f"{label} {100 * share:.0f}%" for label, share in ranked)
    strange = f"\n    UNLIKE the recordings it was trained on: {prediction.unlike}" if prediction.unlike else ""
    return f"{prediction.path}\n    {prediction.told(min_confidence):<10} {shares}{strange}"


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/predict.py --checkpoint checkpoints/cnn1d/RUN/best.safetensors me.wav\n"
        "  python scripts/predict.py --checkpoint best.safetensors --json recordings/ > emotions.json\n"
        "  python scripts/predict.py --checkpoint best.safetensors --adapt-to my_recordings/ me.wav",
    )
    commands.add_model(parser)
    commands.add_min_confidence(parser)
    commands.add_device(parser)
    parser.add_argument(
        "--json", action="store_true", help="a list of objects: path, label, probabilities, unlike, error"
    )
    parser.add_argument("audio", nargs="+", metavar="AUDIO_OR_FOLDER", help="audio files, or folders of them")
    commands.run(main, parser.parse_args())
