"""What the page of the demo answers: it recognizes a recording, explains the prediction, and adapts to a voice."""

import base64
import math
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from serx.data.audio.error import AudioError
from serx.demo import html
from serx.demo.analysis import (
    Analysis,
    analyze,
    synthetic_conversation,
    synthetic_voice,
    voice_clips,
)
from serx.errors import ConfigError, SerxError, is_out_of_memory
from serx.inference.adaptation import adapted
from serx.inference.explanation import Explanation
from serx.inference.predictor import Predictor
from serx.inference.segmentation import RATE
from serx.plots.style import figure_png

if TYPE_CHECKING:
    pass

STOP_SECONDS = 20.0  # to wait for a computation at the end
STEPS = 64  # of the integral of a saliency
VOICES = 6  # synthetic ones
MOST_PROBABLE = "the most probable emotion"
CONVERSATION = "a conversation of two voices (15 s)"
NOTHING = "Record something, or choose a file first."


@dataclass
class Session:
    """What one visitor has uploaded: the recording with its analysis, and the clips of a voice to adapt to."""

    path: Path | None = None
    analysis: Analysis | None = None
    part: int | None = None
    voice: Sequence[Tensor] = ()


class Demo:
    """The answers of the page, as HTML and samples. It knows nothing of gradio but the order of the outputs.

    One visitor is answered at a time, since adapting changes the model for as long as it lasts.
    """

    def __init__(self, predictor: Predictor, folder: Path) -> None:
        """`folder` is the only one whose files are read."""
        self.predictor, self._folder, self._lock = predictor, folder.resolve(), threading.Lock()
        self._stopping = False

    def stop(self) -> None:
        """Ends what is being computed, and waits for it: the process must not end within a computation of torch."""
        self._stopping = True
        self._lock.acquire(timeout=STOP_SECONDS)

    def recognize(self, session: Session, file: str | None) -> tuple[Session, str, str, list[str]]:
        """The session with the recording, its verdict, its timeline, and the titles of its parts."""
        session.path = session.analysis = session.part = None
        if file is None:
            return session, html.message(NOTHING), "", []
        try:
            with self._adapted(session):
                path = self._own(file)
                session.analysis = analyze(self.predictor, path, clock=self._clock)
        except Exception as error:
            return session, html.message(sentence(error), "error"), "", []
        session.path = path
        parts, labels = session.analysis.parts, self.predictor.labels
        usable = [i for i, part in enumerate(parts) if part.prediction.error is None]
        session.part = usable[0] if usable else None
        verdict = html.verdict(session.analysis, path.name, labels, len(session.voice))
        titles = [f"{i + 1}. {html.part_title(part)}" for i, part in enumerate(parts)]
        return session, verdict, html.timeline(parts, session.analysis.seconds, labels), titles

    @property
    def explainable(self) -> list[str]:
        """What a saliency may be of, the usual one first: emotions, and dimensions such as arousal."""
        labels, dimensions = self.predictor.labels, self._dimensions
        return [*((MOST_PROBABLE, *labels) if labels else ()), *dimensions]

    @property
    def _dimensions(self) -> list[str]:
        return [dimension.name for dimension in self.predictor.recognizer.dimensions]

    def explain(self, session: Session, name: str | None) -> str:
        """The picture of the saliency for one of `explainable`, of the recording or of the chosen part."""
        if session.analysis is None or session.path is None:
            return ""
        try:
            with self._adapted(session):
                explanation = self._explanation(session, None if name == MOST_PROBABLE else name)
            return _picture(explanation)
        except Exception as error:
            return html.message(sentence(error), "error")

    def choose_part(self, session: Session, title: str | None) -> tuple[Session, tuple[int, np.ndarray] | None]:
        """The session with another part, and that part's samples to play."""
        parts = session.analysis.parts if session.analysis else ()
        number = (title or "").partition(".")[0]
        if not number.isdecimal() or not 1 <= int(number) <= len(parts):
            return session, None
        session.part = int(number) - 1
        return session, (RATE, parts[session.part].samples)

    def adapt(self, session: Session, files: Sequence[str] | None) -> tuple[Session, str]:
        """The session with the clips of a voice, and what became of the files."""
        try:
            with self._lock:
                paths = [self._own(file) for file in files or []]
                clips, skipped = voice_clips(self.predictor, paths)
                with adapted(self.predictor.recognizer, clips):
                    session.voice = clips
        except Exception as error:
            session.voice = ()
            return session, html.message(sentence(error), "error")
        lines = [html.message(f"Adapted to {len(clips)} clips. Predictions from now on are of the adapted model.")]
        lines += [
            html.message(f"{html.file_name(path.name)}: not used: {why}", "warning") for path, why in skipped.items()
        ]
        return session, "".join(lines)

    def forget_voice(self, session: Session) -> tuple[Session, str]:
        """The session without the voice."""
        session.voice = ()
        return session, html.message("The model is as it was trained.")

    def example(self, voice: str, emotion: str) -> tuple[int, np.ndarray]:
        """The samples of a synthetic voice or conversation, made on the spot."""
        if voice == CONVERSATION:
            return RATE, synthetic_conversation()
        return RATE, synthetic_voice(voices().index(voice) + 1, emotion)

    @contextmanager
    def _adapted(self, session: Session) -> Iterator[None]:
        with self._lock:
            if self._stopping:
                raise SerxError("serx demo ends")
            with adapted(self.predictor.recognizer, session.voice) if session.voice else nullcontext():
                yield

    def _clock(self) -> float:
        return math.inf if self._stopping else time.monotonic()

    def _own(self, file: str) -> Path:
        """The path of an upload; another one, which only a forged request can name, is refused."""
        path = Path(file).resolve()
        if not path.is_relative_to(self._folder):
            raise ConfigError("this file was not uploaded; choose one of yours")
        return path

    def _explanation(self, session: Session, name: str | None) -> Explanation:
        assert session.analysis is not None
        assert session.path is not None
        what: dict[str, Any] = {"dimension" if name in self._dimensions else "emotion": name, "steps": STEPS}
        if session.part is None:
            return self.predictor.explain(session.path, **what)
        part = session.analysis.parts[session.part]
        seconds = len(part.samples) / RATE
        explained = self.predictor.explain(part.samples, RATE, start=0.0, end=seconds, **what)
        named = replace(explained.prediction, path=session.path)
        return replace(explained, seconds=explained.seconds + part.start, prediction=named)


def sentence(error: Exception) -> str:
    """An error as a sentence for the page. What nobody expects is printed with its traceback in the terminal only."""
    if isinstance(error, AudioError):
        return f"This recording cannot be used ({error.reason.replace('_', ' ')}): {error.detail}."
    if isinstance(error, SerxError):
        return f"{' '.join(str(error).split())}."
    if is_out_of_memory(error):
        return "There is too little memory for this recording; give a shorter one."
    traceback.print_exception(error, file=sys.stderr)
    return f"Something unexpected went wrong ({type(error).__name__}); the terminal of serx demo shows where."


def voices() -> list[str]:
    """The names of the synthetic voices."""
    return [f"synthetic voice {number}" for number in range(1, VOICES + 1)]


def _picture(explanation: Explanation) -> str:
    content = base64.b64encode(figure_png(explanation.figure())).decode()
    about = f"Spectrogram with the saliency for {explanation.name}"
    image = f'<img id="saliency" alt="{html.escape(about)}" src="data:image/png;base64,{content}">'
    return f'<div class="serx-picture">{image}</div>'
