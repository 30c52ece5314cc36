"""The most confident mistakes, with sound, spectrogram and saliency, each small enough to be part of a page."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from markupsafe import Markup

from serx import plots
from serx.data.audio.mp3 import encode_mp3
from serx.dsp.mel import mel_centers
from serx.evaluation.predictions import Predictions
from serx.features.registry import WAVEFORM
from serx.features.transforms import LogMel
from serx.inference.explanation import Explanation, explain_clip
from serx.inference.prediction import Prediction
from serx.pages.charts import saliency_strip
from serx.recognizer import Recognizer

MISTAKES = 10
MAX_SECONDS = 12.0  # of a clip in a page
N_MELS, F_MIN, WINDOW_SECONDS = 64, 50.0, 0.064
TICK_DISTANCE = 0.2  # of the height of a spectrogram, between the frequencies that are written on it
DYNAMIC_RANGE_DB = 70.0  # of a spectrogram, below its loudest point
SALIENCY_STEPS = 32  # of the integral: an error that a small strip does not show
LIKELY = 3  # emotions that are listed for each mistake

ReadClip = Callable[[int], tuple[np.ndarray, int] | None]
# From the index of a prediction and its waveform (T,) to the explanation of the predicted emotion; None without one.
Explain = Callable[[int, np.ndarray], Explanation | None]


@dataclass(frozen=True)
class Picture:
    """A picture of the frequencies of a clip, low ones at the bottom.

    Attributes:
        uri: a `data:` URI of a PNG file.
        ticks: frequencies such as `2 kHz`, with their heights in % of the picture.
    """

    uri: str
    ticks: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction.

    Attributes:
        name: of the file.
        likely: the most probable emotions, with their probabilities.
        audio: a `data:` URI of an MP3 file; None where the clip cannot be read.
        spectrogram: of the clip.
        saliency: what each band contributes to the wrong prediction over time; None for models that are explained over
            time only, and where it was not computed.
        moments: what each moment contributes, as SVG.
        seconds: duration of the clip.
        is_cut: only the beginning of the clip is in the page.
    """

    name: str
    speaker_id: str
    target: str
    predicted: str
    confidence: float
    likely: tuple[tuple[str, float], ...]
    audio: str | None = None
    spectrogram: Picture | None = None
    saliency: Picture | None = None
    moments: Markup | None = None
    seconds: float = 0.0
    is_cut: bool = False


def confident_mistakes(
    predictions: Predictions, read_clip: ReadClip | None, number: int = MISTAKES, explain: Explain | None = None
) -> list[Mistake]:
    """The wrong predictions with the highest confidence, most confident first.

    Args:
        predictions: of all clips.
        read_clip: from the index of a prediction to the waveform `(T,)` float32 and its sampling rate in Hz; None if
            the clip cannot be read.
        number: how many.
        explain: the saliency of a clip.
    """
    p, predicted, confidence = predictions, predictions.predicted, predictions.probabilities.max(1)
    wrong = np.flatnonzero((predicted != p.targets) & ~p.tied)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:number]
    return [_mistake(p, int(i), read_clip(int(i)) if read_clip else None, explain) for i in worst]


def _mistake(p: Predictions, i: int, clip: tuple[np.ndarray, int] | None, explain: Explain | None) -> Mistake:
    row = p.probabilities[i]
    likely = np.argsort(-row, kind="stable")[:LIKELY]
    words = {
        "name": Path(p.paths[i]).name,
        "speaker_id": p.speaker_ids[i],
        "target": p.labels[p.targets[i]],
        "predicted": p.labels[likely[0]],
    }
    mistake = Mistake(
        **words, confidence=float(row[likely[0]]), likely=tuple((p.labels[k], float(row[k])) for k in likely)
    )
    if clip is None:
        return mistake
    waveform, rate = clip
    shown = waveform[: round(MAX_SECONDS * rate)]
    loud = shown / max(float(np.abs(shown).max()), 1e-5)  # listeners should not have to turn up the volume
    explanation = None if explain is None else explain(i, waveform)
    saliency, moments = (None, None) if explanation is None else _saliency(explanation, len(shown) / len(waveform))
    return replace(
        mistake,
        audio=data_uri("audio/mpeg", encode_mp3(0.9 * loud, rate)),
        spectrogram=spectrogram_picture(shown, rate),
        saliency=saliency,
        moments=moments,
        seconds=len(waveform) / rate,
        is_cut=len(shown) < len(waveform),
    )


def _saliency(explanation: Explanation, share: float) -> tuple[Picture | None, Markup]:
    """The saliency over time and frequency, and over time, of the first `share` of the clip."""
    count = max(1, round(share * len(explanation.frame_saliency)))
    strip = saliency_strip(explanation.frame_saliency[:count].tolist())
    if explanation.saliency is None:
        return None, strip
    png = plots.saliency_png(explanation.spectrogram[:, :count], explanation.saliency[:, :count])
    return Picture(data_uri("image/png", png), _ticks(explanation.hertz)), strip


def _ticks(hertz: np.ndarray) -> tuple[tuple[str, float], ...]:
    """Some frequencies and their heights in % of a picture with a row for each of `hertz (F,)`."""
    rows = plots.octave_rows(hertz, TICK_DISTANCE)
    return tuple(
        (f"{octave / 1000:g} kHz" if octave >= 1000 else f"{octave:g} Hz", 100 * (row + 0.5) / len(hertz))
        for octave, row in rows.items()
    )


def spectrogram_picture(waveform: np.ndarray, sample_rate: int) -> Picture:
    """A log-mel spectrogram of `waveform (T,)`.

    >>> [text for text, _ in spectrogram_picture(np.sin(np.arange(8000) / 5).astype(np.float32), 16_000).ticks]
    ['4 kHz', '2 kHz', '1 kHz', '250 Hz']
    """
    window = round(WINDOW_SECONDS * sample_rate)
    mel = LogMel(sample_rate, n_mels=N_MELS, n_fft=window, hop_length=window // 4, f_min=F_MIN, top_db=DYNAMIC_RANGE_DB)
    with torch.inference_mode():
        decibels = mel(torch.from_numpy(np.ascontiguousarray(waveform, np.float32))[None])[0][0].numpy()
    return Picture(data_uri("image/png", plots.image_png(decibels)), _ticks(mel_centers(mel.scale).numpy()))


def data_uri(mime: str, content: bytes) -> str:
    """The content as a URI that needs no file and no network.

    >>> data_uri("text/plain", b"hi")
    'data:text/plain;base64,aGk='
    """
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def clip_explainer(recognizer: Recognizer, predictions: Predictions) -> Explain | None:
    """An `Explain` for the predictions of a recognizer; None for models of waveforms, with which it takes minutes."""
    if recognizer.features.config.stack == (WAVEFORM,):
        return None

    def explain(i: int, waveform: np.ndarray) -> Explanation:
        p = predictions
        prediction = Prediction.from_probabilities(dict(zip(p.labels, p.probabilities[i].tolist(), strict=True)))
        clip = np.ascontiguousarray(waveform, np.float32)
        return explain_clip(recognizer, clip, prediction, steps=SALIENCY_STEPS)

    return explain


def clip_reader(
    batch: Callable[[Sequence[int]], tuple[torch.Tensor, torch.Tensor]], clips: Sequence[int | None], sample_rate: int
) -> ReadClip:
    """A `ReadClip` for predictions of `clips` of a batch source, whose method `batch` is given."""

    def read(i: int) -> tuple[np.ndarray, int] | None:
        clip = clips[i]
        if clip is None:
            return None
        waveform, lengths = batch([clip])
        return waveform[0, : int(lengths[0])].cpu().numpy(), sample_rate

    return read
