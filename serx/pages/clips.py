"""The most confident mistakes, with their sound and their spectrogram, each small enough to be part of a page."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from markupsafe import Markup

from serx import plots
from serx.data.audio import encode_mp3
from serx.evaluation.predictions import Predictions
from serx.features.registry import WAVEFORM
from serx.features.transforms import LogMel
from serx.inference.explanation import explain_clip
from serx.inference.predictor import Prediction
from serx.pages.charts import saliency_strip
from serx.recognizer import Recognizer

MISTAKES = 10
MAX_SECONDS = 12.0  # of a clip in a page
N_MELS, F_MIN, WINDOW_SECONDS = 64, 50.0, 0.064
DYNAMIC_RANGE_DB = 70.0  # of a spectrogram, below its loudest point
SALIENCY_STEPS = 32  # of the integral: an error that a small strip does not show
LIKELY = 3  # emotions that are listed for each mistake

ReadClip = Callable[[int], tuple[np.ndarray, int] | None]
# From the index of a prediction and its waveform (T,) to the saliency of each frame (N,) for the predicted emotion.
Explain = Callable[[int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction.

    Attributes:
        name: of the file.
        likely: the most probable emotions, with their probabilities.
        audio, spectrogram: `data:` URIs of an MP3 file and a PNG file; None where the clip cannot be read.
        seconds: duration of the clip.
        saliency: what each moment contributes to the wrong prediction, as SVG; None where it was not computed.
        is_cut: only the beginning of the clip is in the page.
    """

    name: str
    speaker_id: str
    target: str
    predicted: str
    confidence: float
    likely: tuple[tuple[str, float], ...]
    audio: str | None = None
    spectrogram: str | None = None
    saliency: Markup | None = None
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
    return Mistake(
        **words,
        confidence=mistake.confidence,
        likely=mistake.likely,
        audio=data_uri("audio/mpeg", encode_mp3(0.9 * loud, rate)),
        spectrogram=data_uri("image/png", spectrogram_png(shown, rate)),
        saliency=None if explain is None else _strip(explain(i, waveform), len(shown) / len(waveform)),
        seconds=len(waveform) / rate,
        is_cut=len(shown) < len(waveform),
    )


def _strip(saliency: np.ndarray, share: float) -> Markup:
    """The saliency of the part of the clip that is shown, its first `share`."""
    return saliency_strip(saliency[: max(1, round(share * len(saliency)))].tolist())


def spectrogram_png(waveform: np.ndarray, sample_rate: int) -> bytes:
    """A log-mel spectrogram of `waveform (T,)`, low frequencies at the bottom, without axes.

    >>> spectrogram_png(np.sin(np.arange(8000) / 5).astype(np.float32), 16_000)[1:4]
    b'PNG'
    """
    window = round(WINDOW_SECONDS * sample_rate)
    mel = LogMel(sample_rate, n_mels=N_MELS, n_fft=window, hop_length=window // 4, f_min=F_MIN, top_db=DYNAMIC_RANGE_DB)
    with torch.inference_mode():
        decibels = mel(torch.from_numpy(np.ascontiguousarray(waveform, np.float32))[None])[0][0].numpy()
    return plots.image_png(decibels)


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

    def explain(i: int, waveform: np.ndarray) -> np.ndarray:
        p = predictions
        prediction = Prediction.from_probabilities(dict(zip(p.labels, p.probabilities[i].tolist(), strict=True)))
        clip = np.ascontiguousarray(waveform, np.float32)
        return explain_clip(recognizer, clip, prediction, steps=SALIENCY_STEPS).frame_saliency

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
