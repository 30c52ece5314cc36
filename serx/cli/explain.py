"""Show which moments and frequencies a prediction rests on.

Writes saliency.png (the spectrogram with the saliency over it), saliency.csv (each frame and band) and saliency.json
(each frame, each band, the completeness error). Models of waveforms and ensembles are explained over time only.
Of a recording that is longer than the model takes, the segment in which the emotion is most probable is explained.
"""

import argparse
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from serx.cli.options import add_channel, add_device, add_model, load_predictor
from serx.cli.output import add_json, print_json
from serx.cli.predict import drawn, table_row
from serx.terminal import Table, is_terminal, printable, show

if TYPE_CHECKING:
    from serx.inference.predictor import Prediction, Predictor

EXAMPLES = """  %(prog)s me.wav                                          (the most probable emotion, the model of serx)
  %(prog)s --checkpoint best.safetensors --emotion angry --out why_angry me.wav
  %(prog)s --start 62.5 --end 66 talk.wav                  (a part of a long recording)
  %(prog)s --adapt-to my_recordings/ me.wav"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the recording, the emotion, and where the files go."""
    add_model(parser)
    add_channel(parser)
    add_device(parser)
    parser.add_argument("--emotion", metavar="NAME", help="emotion to explain; default: the most probable one")
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
    from serx.data.audio import audio_files
    from serx.device import choose_device
    from serx.inference.adaptation import adapted
    from serx.inference.attribution import STEPS

    predictor = load_predictor(arguments, choose_device(arguments.device, "--device"), channel=arguments.channel)
    clips, unused = predictor.adaptation_clips(audio_files(arguments.adapt_to or []))
    with adapted(predictor.recognizer, clips) if arguments.adapt_to else nullcontext():
        recording = _long_recording(predictor, arguments)
        emotion, start, end = arguments.emotion, arguments.start, arguments.end
        if recording is not None:
            emotion, start, end = clearest_segment(recording, emotion)
        explanation = predictor.explain(
            arguments.audio,
            emotion=emotion,
            start=start,
            end=end,
            steps=STEPS if arguments.steps is None else arguments.steps,
        )
    prediction, part_name = explanation.prediction, f"{explanation.emotion}: log-probability"
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
            f"explained: {start:.1f} to {end:.1f} s, where {explanation.emotion} is most probable; --start and --end "
            "choose another part"
        )
    show(drawn([prediction]) if is_terminal(sys.stdout) else [table_row(prediction)])
    print(f"{part_name} {explanation.log_probability:.3f} nats")
    if explanation.completeness_error is None:
        print("method: occlusion, over time only, because this model does not read features of frames")
    else:
        baseline, error = explanation.baseline_log_probability, explanation.completeness_error
        print(
            f"method: integrated gradients from a baseline of {baseline:.3f} nats; completeness error {error:+.3f} nats"
        )
    rows = [(f"{start:.2f} to {end:.2f}", f"{nats:+.3f}") for start, end, nats in explanation.strongest_parts()]
    show([Table("Strongest parts, in nats", ("seconds", explanation.emotion), rows)])
    print(f"written: {', '.join(map(str, written))}")
    return 1 if unused else 0


def _long_recording(predictor: "Predictor", arguments: argparse.Namespace) -> "Prediction | None":
    """The prediction of a recording that is longer than the model takes; None of a shorter one, or if a part is chosen.

    Raises:
        AudioError: the recording cannot be used.
    """
    from serx.data.audio import AudioError, audio_duration

    if arguments.start is not None or arguments.end is not None:
        return None
    if audio_duration(arguments.audio) <= predictor.config.data.max_seconds:
        return None
    recording = predictor(arguments.audio)
    if recording.error is not None:
        reason, _, detail = recording.error.partition(": ")
        raise AudioError(arguments.audio, reason, detail)
    return recording


def clearest_segment(recording: "Prediction", emotion: str | None = None) -> tuple[str, float, float]:
    """An emotion, and the start and the end (s) of the segment of a recording in which it is most probable.

    Args:
        recording: with segments, at least one of them without an error.
        emotion: default: the most probable one of the recording.

    >>> from serx.inference.predictor import Prediction
    >>> parts = [Prediction(probabilities={"sad": p, "happy": 1 - p}, start=p, end=p + 1) for p in (0.2, 0.9, 0.6)]
    >>> clearest_segment(Prediction(probabilities={"sad": 0.6, "happy": 0.4}, segments=tuple(parts)))
    ('sad', 0.9, 1.9)
    """
    values = recording.probabilities
    named = max(values, key=values.__getitem__) if emotion is None else emotion
    usable = [segment for segment in recording.segments if segment.error is None]
    segment = max(usable, key=lambda segment: segment.probabilities.get(named, 0.0))
    return named, segment.start or 0.0, segment.end or 0.0
