#!/usr/bin/env python3
"""Make one ONNX file of a checkpoint, from waveform to probabilities, for programs without PyTorch."""

import sys
from contextlib import nullcontext
from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> int:
    import torch

    from serx.data.audio import audio_files, read
    from serx.inference.adaptation import adapted
    from serx.inference.export import export
    from serx.inference.predictor import Predictor

    out = Path(arguments.out or Path(arguments.checkpoint).with_suffix(".onnx"))
    predictor = Predictor(arguments.checkpoint, torch.device("cpu"))
    whole = {"trim_db": None, "offset_seconds": 0.0, "duration_seconds": None}  # the file does these by itself
    clips = [read(path, predictor.config.data.model_copy(update=whole)) for path in audio_files(arguments.audio)]
    voice, unused = predictor.recordings(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{path}: not used for the voice: {reason}", file=sys.stderr)
    with adapted(predictor.recognizer, voice) if arguments.adapt_to else nullcontext():
        done = export(predictor, out, clips)
    rate = predictor.config.data.sample_rate
    print(
        f"{out}: {done.bytes / 1e6:.1f} MB\n"
        f"waveform (1, samples) float32 at {rate} Hz -> probabilities (1, {len(predictor.labels)}): "
        f"{', '.join(predictor.labels)}\n"
        f"compared with the checkpoint on {done.clips} clips: a probability differs by {done.difference:.1g} at most"
    )
    return 1 if unused else 0


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/export.py --checkpoint best.safetensors                  # makes best.onnx\n"
        "  python scripts/export.py --checkpoint best.safetensors recordings/      # and compares it on these\n"
        "  python scripts/export.py --checkpoint best.safetensors --out me.onnx --adapt-to my_recordings/\n"
        "\nneeds packages of its own: pip install -e '.[export]'",
    )
    commands.add_model(parser)
    parser.add_argument("--out", metavar="FILE", help="default: the checkpoint's name, ending in .onnx")
    parser.add_argument(
        "audio", nargs="*", metavar="AUDIO_OR_FOLDER", help="recordings to compare on, besides made-up clips"
    )
    commands.run(main, parser.parse_args())
