"""Predict the emotion of each utterance of a microphone or a long recording.

A prediction is printed as soon as an utterance ends. The audio comes from a microphone, from a recording of any length,
or from another program through standard input.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from serx.cli.options import add_channel, add_device, add_min_confidence, add_model, load_predictor
from serx.cli.predict import label_and_percents
from serx.errors import ConfigError
from serx.terminal import printable

if TYPE_CHECKING:
    from serx.inference.prediction import PredictedSegment
    from serx.inference.predictor import Predictor

EXAMPLES = """  %(prog)s                                                         (the microphone, the model of serx)
  %(prog)s --checkpoint best.safetensors                           (the microphone)
  %(prog)s --checkpoint best.safetensors --adapt-to mine/          (adapted to your voice)
  %(prog)s --checkpoint best.safetensors --adapt talk.wav          (to the one speaker of the talk, as it goes)
  %(prog)s --checkpoint best.safetensors --json talk.wav > talk.jsonl
  arecord -f S16_LE -r 16000 -t raw | %(prog)s --checkpoint best.safetensors -

microphones need one more package: pip install 'serx[microphone]'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the source of audio, and the form of the output."""
    add_model(parser)
    add_min_confidence(parser)
    add_channel(parser)
    add_device(parser)
    parser.add_argument(
        "--microphone", metavar="N_OR_NAME", help="input device, by number or name; default: the system's default"
    )
    parser.add_argument(
        "--sample-rate", type=int, default=16_000, metavar="HZ", help="of the samples that `-` reads; default: 16000"
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="adapt to the speaker, who must be the same throughout: predict each utterance in the light of those up "
        "to it",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one object a line: start, end (s), label, confidence, probabilities, ood, error, and dimensions of "
        "a model that predicts some; with --adapt also adapted_to, the number of utterances",
    )
    parser.add_argument(
        "audio",
        nargs="?",
        metavar="AUDIO",
        help="a recording of any length; `-` reads raw signed 16-bit mono samples; default: the microphone",
    )


def main(arguments: argparse.Namespace) -> int:
    """Prints a line for each utterance; returns 1 where no speech was found, or an utterance was not used."""
    from serx.data.audio.error import AudioError
    from serx.data.audio.paths import audio_files
    from serx.device import choose_device
    from serx.inference.adaptation import adapted

    device = choose_device(arguments.device, "--device")
    if arguments.channel and arguments.audio in (None, "-"):
        raise ConfigError("--channel: the microphone and standard input are mono; name a recording")
    if arguments.adapt and arguments.adapt_to:
        raise ConfigError("--adapt and --adapt-to: both adapt to the speaker; give one of them")
    predictor = load_predictor(arguments, device, arguments.min_confidence, arguments.channel)
    notes: list[str] = []
    clips, unused = predictor.adaptation_clips(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{printable(path)}: not used for adaptation: {printable(reason)}", file=sys.stderr)
    segments = _segments(arguments, predictor, notes)
    if arguments.adapt:
        print(
            "adapting as it goes: one speaker is assumed; each utterance is predicted in the light of those up to it",
            file=sys.stderr,
        )
    count = failed = 0
    try:
        with adapted(predictor.recognizer, clips) if arguments.adapt_to else nullcontext():
            for segment in segments:
                if predictor.ood_unknown and not arguments.json and count == 0:
                    print(f"note: unlike the recordings it was trained on? {predictor.ood_unknown}", file=sys.stderr)
                _print_warnings(arguments.audio, notes)
                print(output_line(segment, arguments.json), flush=True)
                count += 1
                failed += segment.prediction.error is not None
    except KeyboardInterrupt:
        if arguments.audio is not None:
            raise
        return 0
    except AudioError as error:
        if error.reason != "silent":  # known only at the end: the recording was read, and nothing was in it
            raise
        print(printable(error), file=sys.stderr)
        return 1
    if not count:
        print(f"{printable(arguments.audio)}: no speech was found", file=sys.stderr)
    return 0 if count and not failed and not unused else 1


def _segments(arguments: argparse.Namespace, predictor: "Predictor", notes: list[str]) -> Iterator["PredictedSegment"]:
    """The predicted utterances of the microphone, of standard input or of a recording."""
    from serx.inference.segmentation import RATE
    from serx.inference.streaming import microphone_blocks, pcm_blocks

    adapt = arguments.adapt
    if arguments.audio is None:
        segments = predictor.stream(microphone_blocks(arguments.microphone, RATE), RATE, adapt=adapt)
        print("listening; a prediction follows each pause; Ctrl-C stops", file=sys.stderr)
        return segments
    if arguments.audio == "-":
        return predictor.stream(pcm_blocks(sys.stdin.buffer, arguments.sample_rate, RATE), RATE, adapt=adapt)
    return predictor.stream(arguments.audio, notes=notes, adapt=adapt)


def _print_warnings(audio: str, notes: list[str]) -> None:
    """Prints the notes about the recording that came up since the last segment, and empties the list."""
    for note in notes:
        print(f"{printable(audio)}: warning: {printable(note)}", file=sys.stderr)
    notes.clear()


def output_line(segment: "PredictedSegment", as_json: bool) -> str:
    """Start and end in seconds, the label, then every emotion from the most probable down.

    A second line names what is unusual about an out-of-distribution recording.
    """
    prediction = replace(segment.prediction, start=segment.start, end=segment.end)
    if as_json:
        adapted_to = {} if segment.adapted_to is None else {"adapted_to": segment.adapted_to}
        return json.dumps(prediction.as_dict() | adapted_to)
    times = f"{segment.start:7.1f} to {segment.end:5.1f} s   "
    if prediction.error:
        return f"{times}not used: {printable(prediction.error)}"
    warning = f"\n{'':22}unlike the recordings it was trained on: {prediction.ood}" if prediction.is_ood else ""
    adapted = f"   adapted to {segment.adapted_to} utterances of one speaker" if segment.adapted_to else ""
    return f"{times}{label_and_percents(prediction)}{adapted}{warning}"
