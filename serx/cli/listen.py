"""Predict the emotion of each utterance of a microphone or a long recording.

A prediction is printed as soon as an utterance ends. The audio comes from a microphone, from a recording of any length,
or from another program through standard input.
"""

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from serx.cli import common

if TYPE_CHECKING:
    from serx.inference.segmentation import Utterance

EXAMPLES = """  %(prog)s --checkpoint best.safetensors                           (the microphone)
  %(prog)s --checkpoint best.safetensors --adapt-to mine/          (adapted to your voice)
  %(prog)s --checkpoint best.safetensors --json talk.wav > talk.jsonl
  ffmpeg -i film.mkv -f s16le -ac 1 -ar 16000 - | %(prog)s --checkpoint best.safetensors -

microphones need one more package: pip install 'serx[microphone]'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the source of audio, and the form of the output."""
    common.add_model(parser)
    common.add_min_confidence(parser)
    common.add_device(parser)
    parser.add_argument(
        "--microphone", metavar="N_OR_NAME", help="input device, by number or name; default: the system's default"
    )
    parser.add_argument(
        "--sample-rate", type=int, default=16_000, metavar="HZ", help="of the samples that `-` reads; default: 16000"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one object a line: start, end (s), label, probabilities, unlike"
    )
    parser.add_argument(
        "audio",
        nargs="?",
        metavar="AUDIO",
        help="a recording of any length; `-` reads raw signed 16-bit mono samples; default: the microphone",
    )


def main(arguments: argparse.Namespace) -> int:
    """Prints a line for each utterance; returns 1 where no speech was found."""
    from serx.data.audio import audio_files, prepare_clip, read_blocks
    from serx.device import choose_device
    from serx.inference.adaptation import adapted
    from serx.inference.predictor import Predictor, verdict
    from serx.inference.segmentation import RATE, utterances
    from serx.inference.streaming import from_microphone, from_stream

    predictor = Predictor(arguments.checkpoint, choose_device(arguments.device, "--device"))
    voice, unused = predictor.recordings(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{path}: not used for adaptation: {reason}", file=sys.stderr)
    if arguments.audio is None:
        source = from_microphone(arguments.microphone, RATE)
        print("listening; a prediction follows each pause; Ctrl-C stops", file=sys.stderr)
    elif arguments.audio == "-":
        source = from_stream(sys.stdin.buffer, arguments.sample_rate, RATE)
    else:
        source = read_blocks(Path(arguments.audio), RATE)
    count = 0
    try:
        with adapted(predictor.recognizer, voice) if arguments.adapt_to else nullcontext():
            for utterance in utterances(source):
                clip = prepare_clip(utterance.waveform, RATE, predictor.config.data)
                [probabilities], [unlike] = predictor.probabilities([clip]), predictor.unlike([clip])
                label = verdict(probabilities, arguments.min_confidence)
                print(output_line(utterance, label, probabilities, unlike, arguments.json), flush=True)
                count += 1
    except KeyboardInterrupt:
        if arguments.audio is not None:
            raise
        return 0
    if not count:
        print(f"{arguments.audio}: no speech was found", file=sys.stderr)
    return 0 if count and not unused else 1


def output_line(
    utterance: "Utterance", label: str, probabilities: dict[str, float], unlike: str | None, as_json: bool
) -> str:
    """Start and end in seconds, the label, then every emotion from the most probable down.

    A second line names what is unusual about an out-of-distribution recording.
    """
    if as_json:
        times = {"start": round(utterance.start, 2), "end": round(utterance.end, 2)}
        return json.dumps({**times, "label": label, "probabilities": probabilities, "unlike": unlike})
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    percents = "  ".join(f"{name} {100 * probability:.0f}%" for name, probability in ranked)
    warning = f"\n{'':22}UNLIKE the recordings it was trained on: {unlike}" if unlike else ""
    return f"{utterance.start:7.1f} to {utterance.end:5.1f} s   {label:<10} {percents}{warning}"
