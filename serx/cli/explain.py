"""Show which moments and frequencies a prediction rests on.

Writes saliency.png (the spectrogram with the saliency over it), saliency.csv (each frame and band) and saliency.json
(each frame, each band, the completeness error). Models of waveforms and ensembles are explained over time only.
Of a recording that is longer than the model takes, the segment in which the emotion is most probable, or the rating on
the dimension highest, is explained.
"""

import argparse
import math
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from serx.cli.options import add_channel, add_device, add_model, load_predictor
from serx.cli.output import add_json, print_json
from serx.cli.predict import drawn, table_row
from serx.terminal import Table, is_terminal, printable, show

if TYPE_CHECKING:
    from serx.inference.prediction import Prediction
    from serx.inference.predictor import Predictor

EXAMPLES = """  %(prog)s me.wav                                          (the most probable emotion, the model of serx)
  %(prog)s --checkpoint best.safetensors --emotion angry --out why_angry me.wav
  %(prog)s --checkpoint dimensions.safetensors --dimension arousal me.wav
  %(prog)s --start 62.5 --end 66 talk.wav                  (a part of a long recording)
  %(prog)s --adapt-to my_recordings/ me.wav"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the recording, the emotion, and where the files go."""
    add_model(parser)
    add_channel(parser)
    add_device(parser)
    parser.add_argument("--emotion", metavar="NAME", help="emotion to explain; default: the most probable one")
    parser.add_argument(
        "--dimension",
        metavar="NAME",
        help="such as arousal, to explain in place of an emotion; default: none, or the "
        "first of a model without emotions",
    )
    parser.add_argument("--start", type=float, metavar="S", help="second where the part to explain begins")
    parser.add_argument("--end", type=float, metavar="S", help="second where it ends")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="points of the integral; more lower its error; default: 128"
    )
    add_json(parser, "the content of saliency.json, and of a long recording its prediction, `recording`")
    parser.add_argument("--out", default="explanation", metavar="DIR", help="default: explanation/")
    parser.add_argument("audio", metavar="FILE", help="a recording")


def main(arguments: argparse.Namespace) -> int:
    """Writes the explanation and prints its main lines."""
    from serx.data.audio.paths import audio_files
    from serx.device import choose_device
    from serx.inference.adaptation import adapted
    from serx.inference.attribution import STEPS

    predictor = load_predictor(arguments, choose_device(arguments.device, "--device"), channel=arguments.channel)
    clips, unused = predictor.adaptation_clips(audio_files(arguments.adapt_to or []))
    with adapted(predictor.recognizer, clips) if arguments.adapt_to else nullcontext():
        recording = _long_recording(predictor, arguments)
        emotion, dimension, start, end = arguments.emotion, arguments.dimension, arguments.start, arguments.end
        if recording is not None:
            start, end = clearest_segment(recording, emotion, dimension)
            if recording.probabilities and dimension is None:
                emotion = emotion or max(recording.probabilities, key=recording.probabilities.__getitem__)
        explanation = predictor.explain(
            arguments.audio,
            emotion=emotion,
            dimension=dimension,
            start=start,
            end=end,
            steps=STEPS if arguments.steps is None else arguments.steps,
        )
    prediction, name, unit = explanation.prediction, explanation.name, explanation.unit
    rated = explanation.dimension is not None
    for path, reason in unused.items():
        print(f"{printable(path)}: not used for adaptation: {printable(reason)}", file=sys.stderr)
    written = explanation.write(arguments.out)
    if arguments.json:
        whole = {} if recording is None else {"recording": recording.as_dict()}
        print_json(arguments, explanation.as_dict() | whole)
        return 1 if unused else 0
    if recording is not None:
        show(drawn([recording]) if is_terminal(sys.stdout) else [table_row(recording)])
        print(
            f"explained: {start:.1f} to {end:.1f} s, where {name} is {'highest' if rated else 'most probable'}; "
            "--start and --end choose another part"
        )
    show(drawn([prediction]) if is_terminal(sys.stdout) else [table_row(prediction)])
    size = f"{explanation.value:.3f}"
    print(f"{name}: rating {size}" if rated else f"{name}: log-probability {size} nats")
    if explanation.completeness_error is None:
        print("method: occlusion, over time only, because this model does not read features of frames")
    else:
        baseline, error = f"{explanation.baseline_value:.3f}", f"{explanation.completeness_error:+.3f}"
        nats = "" if rated else " nats"
        print(f"method: integrated gradients from a baseline of {baseline}{nats}; completeness error {error}{nats}")
    rows = [(f"{start:.2f} to {end:.2f}", f"{value:+.3f}") for start, end, value in explanation.strongest_parts()]
    if rows:
        show([Table(f"Strongest parts, in {'units of the rating' if rated else unit}", ("seconds", name), rows)])
    else:
        print(f"no part raises {name}")
    print(f"written: {', '.join(map(str, written))}")
    return 1 if unused else 0


def _long_recording(predictor: "Predictor", arguments: argparse.Namespace) -> "Prediction | None":
    """The prediction of a recording that is longer than the model takes; None of a shorter one, or if a part is chosen.

    Raises:
        AudioError: the recording cannot be used.
    """
    from serx.data.audio.decoding import audio_duration
    from serx.data.audio.error import AudioError

    if arguments.start is not None or arguments.end is not None:
        return None
    if audio_duration(arguments.audio) <= predictor.config.data.max_seconds:
        return None
    recording = predictor(arguments.audio)
    if recording.error is not None:
        reason, _, detail = recording.error.partition(": ")
        raise AudioError(arguments.audio, reason, detail)
    return recording


def clearest_segment(
    recording: "Prediction", emotion: str | None = None, dimension: str | None = None
) -> tuple[float, float]:
    """The start and the end (s) of the segment in which an emotion is most probable, or a rating highest.

    Args:
        recording: with segments, at least one of them without an error.
        emotion: default: the most probable one of the recording.
        dimension: in place of an emotion; default, without emotions: the first.

    >>> from serx.inference.prediction import Prediction
    >>> parts = [Prediction(probabilities={"sad": p, "happy": 1 - p}, start=p, end=p + 1) for p in (0.2, 0.9, 0.6)]
    >>> clearest_segment(Prediction(probabilities={"sad": 0.6, "happy": 0.4}, segments=tuple(parts)))
    (0.9, 1.9)
    """
    usable = [segment for segment in recording.segments if segment.error is None]
    values = recording.probabilities
    if dimension is None and values:
        named = emotion or max(values, key=values.__getitem__)
        segment = max(usable, key=lambda segment: segment.probabilities.get(named, 0.0))
    else:
        named = dimension or next(iter(recording.dimensions), "")
        segment = max(usable, key=lambda segment: segment.dimensions.get(named, -math.inf))
    return segment.start or 0.0, segment.end or 0.0
