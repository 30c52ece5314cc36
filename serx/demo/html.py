"""Predictions as HTML. Names, labels and messages come from files and users, so all of them are escaped."""

from collections.abc import Mapping, Sequence
from html import escape

from serx.data.labels import UNSURE
from serx.demo.analysis import Analysis, Part
from serx.inference.prediction import Prediction
from serx.plots.style import emotion_color
from serx.terminal import printable

LONGEST_NAME = 60  # characters of a file name

CSS = """
.serx-label { font-size: 1.9rem; font-weight: 650; line-height: 1.2 }
.serx-label small { font-size: 1rem; font-weight: 400; opacity: .75; margin-left: .5rem }
.serx-file { opacity: .75; overflow-wrap: anywhere; margin-bottom: .6rem }
.serx-bar { display: grid; grid-template-columns: 6rem 1fr 3.2rem; align-items: center; gap: .6rem; margin: .28rem 0 }
.serx-track { background: var(--border-color-primary); border-radius: 4px; height: .95rem; overflow: hidden }
.serx-track span { display: block; height: 100%; border-radius: 4px }
.serx-bar b { font-weight: 500; text-align: right; font-variant-numeric: tabular-nums }
.serx-message { border-left: 4px solid #4477aa; padding: .5rem .8rem; margin: .5rem 0; border-radius: 4px;
    background: var(--background-fill-secondary); overflow-wrap: anywhere }
.serx-message.error { border-color: #d8434e }
.serx-message.warning { border-color: #ee8833 }
.serx-timeline { position: relative; height: 2.2rem; background: var(--border-color-primary); border-radius: 6px;
    overflow: hidden; margin-top: .4rem }
.serx-timeline span { position: absolute; top: 0; bottom: 0; min-width: 2px; border-right: 1px solid #fff8 }
.serx-axis { display: flex; justify-content: space-between; font-size: .8rem; opacity: .75 }
.serx-legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem; margin-top: .3rem }
.serx-legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .35rem }
.serx-picture { overflow-x: auto }
.serx-picture img { width: 100%; min-width: 34rem }
#parts { max-height: 16rem; overflow-y: auto }
footer { display: none !important }
"""


def message(text: object, kind: str = "note") -> str:
    """A sentence; `kind` is note, warning or error.

    >>> message("<b>", "error")
    '<div class="serx-message error" role="status">&lt;b&gt;</div>'
    """
    return f'<div class="serx-message {kind}" role="status">{_text(text)}</div>'


def file_name(name: str) -> str:
    """A file name as one line of at most 60 characters.

    >>> file_name("a" * 70 + ".wav")[-8:], len(file_name("a" * 70))
    ('aaaa.wav', 60)
    """
    line = printable(name)
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 33]}...{line[-30:]}"


def verdict(analysis: Analysis, name: str, labels: Sequence[str], adapted_to: int = 0) -> str:
    """The prediction of a recording: its emotion, the bars of all emotions, and what a user should know."""
    prediction = analysis.prediction
    notes = [message(prediction.warning, "warning")] if prediction.warning else []
    if prediction.is_ood:
        notes.append(
            message(
                f"Out of distribution: this recording is unlike those of training ({prediction.ood}). "
                "The prediction may be wrong for that reason alone.",
                "warning",
            )
        )
    elif prediction.is_ood is None and prediction.ood:
        notes.append(message(f"Whether the recording is out of distribution is {prediction.ood}."))
    if prediction.label == UNSURE:
        notes.append(message("Unsure: no emotion is as probable as this model demands."))
    if analysis.note:
        notes.append(message(analysis.note, "warning"))
    if analysis.parts and prediction.segments:
        notes.append(message(f"The mean over {len(analysis.parts)} parts, weighted by their length."))
    voice = f", adapted to {adapted_to} clips of the voice" if adapted_to else ""
    about = f"{file_name(name)}, {analysis.seconds:.1f} s{voice}"
    confidence = f"<small>{_percent(prediction.confidence)}</small>"
    if prediction.label == UNSURE:
        confidence = (
            f"<small>most probable: {_text(most_probable(prediction))} {_percent(prediction.confidence)}</small>"
        )
    return (
        f'<div class="serx-label" id="verdict">{_text(most_telling(prediction))}{confidence}</div>'
        f'<div class="serx-file">{_text(about)}</div>{bars(prediction.probabilities, labels)}'
        f"{values(prediction)}{''.join(notes)}"
    )


def bars(probabilities: Mapping[str, float], labels: Sequence[str]) -> str:
    """A bar for each emotion, the most probable first."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    return "".join(
        f'<div class="serx-bar"><span>{_text(label)}</span><div class="serx-track"><span style="width: '
        f'{100 * value:.1f}%; background: {emotion_color(label, labels)}"></span></div><b>{_percent(value)}</b></div>'
        for label, value in ranked
    )


def values(prediction: Prediction) -> str:
    """A line for each dimension, such as arousal, with its value in units of the ratings."""
    return "".join(
        f'<div class="serx-bar"><span>{_text(name)}</span><div></div><b>{value:.2f}</b></div>'
        for name, value in prediction.dimensions.items()
    )


def timeline(parts: Sequence[Part], seconds: float, labels: Sequence[str]) -> str:
    """The parts of a recording along its length, in the colors of their most probable emotions, if there are any."""
    if not parts or not labels:
        return ""
    blocks, shown = [], dict[str, None]()
    for part in parts:
        emotion = most_probable(part.prediction)
        shown[emotion] = None
        strength = 0.35 + 0.65 * (part.prediction.confidence or 0.0)
        blocks.append(
            f'<span title="{_text(part_title(part))}" style="left: {100 * part.start / seconds:.2f}%; width: '
            f"{100 * (part.end - part.start) / seconds:.2f}%; background: {emotion_color(emotion, labels)}; "
            f'opacity: {strength:.2f}"></span>'
        )
    legend = "".join(
        f'<span><i style="background: {emotion_color(emotion, labels)}"></i>{_text(emotion)}</span>'
        for emotion in shown
    )
    return (
        f'<div class="serx-timeline" id="timeline">{"".join(blocks)}</div><div class="serx-axis"><span>0 s</span>'
        f'<span>{seconds:.1f} s</span></div><div class="serx-legend">{legend}</div>'
    )


def part_title(part: Part) -> str:
    """The times and the prediction of a part, such as `1.2 to 3.4 s: happy 85 %`."""
    times = f"{part.start:.1f} to {part.end:.1f} s"
    if part.prediction.error:
        return f"{times}: not used"
    ood = ", out of distribution" if part.prediction.is_ood else ""
    if not part.prediction.probabilities:
        return f"{times}: {most_telling(part.prediction)}{ood}"
    return f"{times}: {most_probable(part.prediction)} {_percent(part.prediction.confidence)}{ood}"


def most_telling(prediction: Prediction) -> str:
    """The label, or the values of a model of dimensions alone, such as `arousal 4.10, valence 2.35`."""
    if prediction.label is not None:
        return prediction.label
    return ", ".join(f"{name} {value:.2f}" for name, value in prediction.dimensions.items())


def most_probable(prediction: Prediction) -> str:
    """The most probable emotion, whether the prediction is `unsure` or not; "not used" without one."""
    values = prediction.probabilities
    return max(values, key=values.__getitem__) if values else "not used"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _text(text: object) -> str:
    return escape(printable(text))
