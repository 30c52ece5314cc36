"""`Prediction`: the emotion of a clip, a segment or a long recording, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serx.data.labels import UNSURE
from serx.inference.segmentation import Segment
from serx.ood import UNKNOWN


@dataclass(frozen=True)
class Prediction:
    """The emotion of one clip, or the reason why there is none.

    Attributes:
        label: the most probable emotion; "unsure" below the predictor's `min_confidence`; None with an `error`, and
            of a model that predicts dimensions alone.
        confidence: the probability of the most probable emotion, from 0 to 1; None without a label.
        probabilities: of every emotion, in the order of the model's labels, adding up to 1; empty without a label.
        ood: how the recording differs from those of training; `unknown: ` and the reason if too few training speakers
            can tell; None if it does not differ, or without a detector.
        path: the file; None for samples.
        error: why the file could not be used: one of the reasons of `AudioError`, a colon, and details; or None.
        start, end: of a segment, in seconds from the start of the recording; None for a whole clip.
        segments: the predictions of the segments of a recording that is longer than `data.max_seconds`.
        warning: what a user should know about the audio, such as that its channels cancel each other; or None.
        dimensions: the value of each dimension that the model predicts, such as arousal, in units of the ratings that
            it was trained with; empty with an `error`.

    >>> prediction = Prediction("angry", 0.75, {"angry": 0.75, "happy": 0.25})
    >>> prediction.label, prediction.error
    ('angry', None)
    """

    label: str | None = None
    confidence: float | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    ood: str | None = None
    path: Path | None = None
    error: str | None = None
    start: float | None = None
    end: float | None = None
    segments: tuple["Prediction", ...] = ()
    warning: str | None = None
    dimensions: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_probabilities(
        cls,
        probabilities: Mapping[str, float],
        min_confidence: float = 0.0,
        ood: str | None = None,
        dimensions: Mapping[str, float] | None = None,
    ) -> "Prediction":
        """The prediction that follows from the probability of each label, and from the value of each dimension.

        >>> Prediction.from_probabilities({"angry": 0.5, "happy": 0.3, "sad": 0.2}, min_confidence=0.6).label
        'unsure'
        """
        values = dict(dimensions or {})
        if not probabilities:
            return cls(ood=ood, dimensions=values)
        label = max(probabilities, key=probabilities.__getitem__)
        confidence = probabilities[label]
        label = label if confidence >= min_confidence else UNSURE
        return cls(label, confidence, dict(probabilities), ood, dimensions=values)

    @property
    def is_ood(self) -> bool | None:
        """Whether the recording is out of distribution; None if that is unknown.

        >>> Prediction(ood="unknown: fitted on 3 speakers").is_ood is None
        True
        """
        unknown = self.error is not None or (self.ood or "").startswith(UNKNOWN)
        return None if unknown else self.ood is not None

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON can hold them: the path is text, and segments are objects with `start` and `end`.

        >>> list(Prediction(path=Path("a.wav"), error="empty: 0 bytes").as_dict().items())[:2]
        [('path', 'a.wav'), ('label', None)]
        """
        result = {name: getattr(self, name) for name in ("label", "confidence", "probabilities", "ood", "error")}
        if self.dimensions:
            result["dimensions"] = self.dimensions
        if self.start is not None and self.end is not None:
            return {"start": round(self.start, 2), "end": round(self.end, 2), **result}
        path = None if self.path is None else str(self.path)
        segments = [segment.as_dict() for segment in self.segments]
        return {"path": path, **result, "warning": self.warning, "segments": segments}


@dataclass(frozen=True, eq=False)
class PredictedSegment(Segment):
    """A `Segment` of speech with its prediction.

    Attributes:
        adapted_to: the number of segments, this one included, to whose speaker the model was adapted; 0 for the first
            segment; None without adaptation to the stream.

    >>> import numpy as np
    >>> segment = PredictedSegment(0.5, np.zeros(16_000, np.float32), Prediction("calm", 0.9))
    >>> f"{segment.start:.1f} to {segment.end:.1f} s: {segment.prediction.label}"
    '0.5 to 1.5 s: calm'
    """

    prediction: Prediction
    adapted_to: int | None = None
