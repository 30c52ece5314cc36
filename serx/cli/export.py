"""Export a checkpoint as one ONNX file, for programs without PyTorch.

The file maps a waveform to probabilities: features, normalizer and model are inside.
"""

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from serx.cli.options import add_model, load_predictor
from serx.cli.output import add_json, print_json
from serx.terminal import printable

EXAMPLES = """  %(prog)s                                                   (the model of serx: writes default.onnx)
  %(prog)s --checkpoint best.safetensors                     (writes best.onnx)
  %(prog)s --checkpoint best.safetensors recordings/         (and compares both on these)
  %(prog)s --checkpoint best.safetensors --out me.onnx --adapt-to my_recordings/

export needs more packages: pip install 'serx[export]'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the output file, and recordings to compare on."""
    add_model(parser)
    add_json(parser, "`file`, `bytes`, `sample_rate`, `labels`, `clips_compared` and `max_difference`")
    parser.add_argument("--out", metavar="FILE", help="default: the checkpoint's name, ending in .onnx")
    parser.add_argument(
        "audio",
        nargs="*",
        metavar="AUDIO_OR_FOLDER",
        help="recordings on which the file is compared with the checkpoint, in addition to synthetic clips",
    )


def main(arguments: argparse.Namespace) -> int:
    """Writes the file, compares it with the checkpoint, and prints its input, its output and the difference."""
    import torch

    from serx.data.audio.decoding import decode
    from serx.data.audio.paths import audio_files
    from serx.inference.adaptation import adapted
    from serx.inference.export import export_onnx

    default = Path(arguments.checkpoint).with_suffix(".onnx") if arguments.checkpoint else Path("default.onnx")
    out = Path(arguments.out or default)
    predictor = load_predictor(arguments, torch.device("cpu"))
    whole = {"trim_db": None, "offset_seconds": 0.0, "duration_seconds": None}  # the ONNX file trims and cuts by itself
    clips = [decode(path, predictor.config.data.model_copy(update=whole)) for path in audio_files(arguments.audio)]
    speaker_clips, unused = predictor.adaptation_clips(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{printable(path)}: not used for adaptation: {printable(reason)}", file=sys.stderr)
    with adapted(predictor.recognizer, speaker_clips) if arguments.adapt_to else nullcontext():
        exported = export_onnx(predictor, out, clips)
    if arguments.json:
        document = {
            "file": out,
            "bytes": exported.n_bytes,
            "sample_rate": predictor.config.data.sample_rate,
            "labels": predictor.labels,
            "clips_compared": exported.n_clips,
            "max_difference": exported.max_difference,
        }
        print_json(arguments, document)
        return 1 if unused else 0
    names = {"probabilities": predictor.labels, "dimensions": [dimension.name for dimension in predictor.dimensions]}
    outputs = [f"{output} (1, {len(of)}): {', '.join(of)}" for output, of in names.items() if of]
    print(
        f"{printable(out)}: {exported.n_bytes / 1e6:.1f} MB\n"
        f"waveform (1, samples) float32 at {predictor.config.data.sample_rate} Hz -> {'; '.join(outputs)}\n"
        f"compared with the checkpoint on {exported.n_clips} clips: "
        f"{'probabilities' if predictor.labels else 'dimensions, as shares of their ranges,'} differ by at most "
        f"{exported.max_difference:.1g}"
    )
    return 1 if unused else 0
