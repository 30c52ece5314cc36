#!/usr/bin/env python3
"""Tell the emotion of every utterance as it ends: from a microphone, a recording of any length, or another program."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> int:
    from serx.data.audio import as_clip, audio_files, blocks
    from serx.device import choose_device
    from serx.inference.adaptation import adapted
    from serx.inference.predictor import Predictor, verdict
    from serx.inference.segmentation import RATE, utterances
    from serx.inference.streaming import from_microphone, from_stream

    predictor = Predictor(arguments.checkpoint, choose_device(arguments.device, "--device"))
    voice, unused = predictor.recordings(audio_files(arguments.adapt_to or []))
    for path, reason in unused.items():
        print(f"{path}: not used for the voice: {reason}", file=sys.stderr)
    if arguments.audio is None:
        source = from_microphone(arguments.microphone, RATE)
        print("listening; an utterance is told when a pause follows; Ctrl-C ends", file=sys.stderr)
    elif arguments.audio == "-":
        source = from_stream(sys.stdin.buffer, arguments.sample_rate, RATE)
    else:
        source = blocks(Path(arguments.audio), RATE)
    heard = 0
    try:
        with adapted(predictor.recognizer, voice) if arguments.adapt_to else nullcontext():
            for utterance in utterances(source):
                clip = as_clip(utterance.waveform, RATE, predictor.config.data)
                [shares], [unlike] = predictor.probabilities([clip]), predictor.unlike([clip])
                print(
                    told(utterance, verdict(shares, arguments.min_confidence), shares, unlike, arguments.json),
                    flush=True,
                )
                heard += 1
    except KeyboardInterrupt:
        if arguments.audio is not None:
            raise
        return 0
    if not heard:
        print(f"{arguments.audio}: no speech was found", file=sys.stderr)
    return 0 if heard and not unused else 1


def told(utterance, label, shares, unlike, as_json: bool) -> str:
    """One line: from when to when, the verdict, then every emotion from the likeliest down.

    A second where the recording is unlike training's.
    """
    if as_json:
        times = {"start": round(utterance.start, 2), "end": round(utterance.end, 2)}
        return json.dumps({**times, "label": label, "probabilities": shares, "unlike": unlike})
    rest = "  ".join(f"{name} {100 * share:.0f}%" for name, share in sorted(shares.items(), key=lambda item: -item[1]))
    strange = f"\n{'':22}UNLIKE the recordings it was trained on: {unlike}" if unlike else ""
    return f"{utterance.start:7.1f} to {utterance.end:5.1f} s   {label:<10} {rest}{strange}"


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/listen.py --checkpoint best.safetensors                   # the microphone\n"
        "  python scripts/listen.py --checkpoint best.safetensors --adapt-to mine/     # and it knows the voice\n"
        "  python scripts/listen.py --checkpoint best.safetensors --json talk.wav > talk.jsonl\n"
        "  ffmpeg -i film.mkv -f s16le -ac 1 -ar 16000 - | python scripts/listen.py --checkpoint best.safetensors -\n\n"
        "microphones need one package more: pip install -e '.[microphone]'",
    )
    commands.add_model(parser)
    commands.add_min_confidence(parser)
    commands.add_device(parser)
    parser.add_argument("--microphone", metavar="N_OR_NAME", help="which input; default: the system's own choice")
    parser.add_argument(
        "--sample-rate", type=int, default=16_000, help="samples a second of what `-` reads; default: 16000"
    )
    parser.add_argument(
        "--json", action="store_true", help="an object a line: start, end, label, probabilities, unlike"
    )
    parser.add_argument(
        "audio",
        nargs="?",
        metavar="AUDIO",
        help="a recording; `-` reads raw signed 16-bit mono samples; default: the microphone",
    )
    commands.run(main, parser.parse_args())
