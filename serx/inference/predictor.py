"""`Predictor`: loads a checkpoint and predicts the emotion of files, arrays and running speech."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, overload

import numpy as np
import torch
from torch import Tensor

from serx.config.loader import Config
from serx.data.audio.channels import ChannelMixer
from serx.data.audio.clip import clip_from_mono
from serx.data.audio.config import Channel
from serx.data.audio.decoding import audio_duration, decode
from serx.data.audio.error import AudioError
from serx.data.audio.paths import audio_files
from serx.data.audio.trimming import trim_bounds
from serx.device import choose_device
from serx.errors import CheckpointError, ConfigError, explaining_out_of_memory
from serx.files import StrPath, as_path
from serx.inference.adaptation import RunningAdaptation, adapted
from serx.inference.attribution import STEPS
from serx.inference.default_model import default_checkpoint
from serx.inference.explanation import Explanation, explain_clip
from serx.inference.loading import load_model
from serx.inference.prediction import PredictedSegment, Prediction
from serx.inference.published import PUBLISHED
from serx.inference.recordings import (
    FILE_HAS_RATE,
    as_paths,
    clip_of_segment,
    mono_blocks,
    part_of_recording,
    segment_clips,
)
from serx.inference.samples import ARRAY, Samples, checked_rate, mono_samples
from serx.inference.segmentation import MAX_SECONDS, Segment, speech_segments
from serx.ood import OodDetector, unknown_reason
from serx.recognizer import Dimension, Recognizer

BATCH = 16  # clips; more of them leave a CPU's cache
NO_SPEECH = "no_speech: no speech was found"


class Predictor:
    """Predicts the emotion of audio with a trained recognizer: `Predictor.load("best.safetensors")("me.wav").label`.

    Audio is decoded, resampled and trimmed as it was for training. A clip's prediction does not depend on other clips,
    except within `adapted_to`.

    Attributes:
        recognizer: waveform -> logits, on `device`, in evaluation mode.
        config: the configuration that it was trained with.
        metadata: what the checkpoint records of its training: protocol, speakers, environment, progress.
        ood_detector: marks recordings that differ from the training data; None if the checkpoint has none.
        ood_unknown: why a recording that is not marked may differ all the same: too few training speakers; or None.
        device: where predictions are computed.
        min_confidence: below this probability a prediction is labeled "unsure".
        path: the checkpoint, for messages; None for a recognizer that was not loaded from one.

    The channel of recordings with several is `config.data.channel`; give `channel` to use another one.

    >>> from serx.config import from_tree
    >>> config = from_tree({"data": {"root": "."}, "model": {"kind": "cnn1d"}}, source="example")
    >>> recognizer = Recognizer(config.features, config.model, ("angry", "happy", "sad"), config.data.sample_rate)
    >>> predictor = Predictor(recognizer, config)  # an untrained network; Predictor.load reads a trained one
    >>> stereo = np.sin(np.arange(88_200).reshape(44_100, 2) / 20)
    >>> prediction = predictor(stereo, 44_100)
    >>> list(prediction.probabilities), round(sum(prediction.probabilities.values()), 4)
    (['angry', 'happy', 'sad'], 1.0)
    >>> predictor(["absent.wav"])[0].error
    'unreadable: No such file or directory'
    """

    def __init__(
        self,
        recognizer: Recognizer,
        config: Config,
        metadata: Mapping[str, Any] | None = None,
        ood_detector: OodDetector | None = None,
        device: torch.device | str = "cpu",
        min_confidence: float = 0.0,
        path: Path | None = None,
        channel: Channel | None = None,
    ) -> None:
        if channel not in (None, *get_args(Channel)):
            raise ConfigError(f"channel {channel!r}: no such channel; give {', '.join(get_args(Channel))}")
        if channel is not None:
            config = config.model_copy(update={"data": config.data.model_copy(update={"channel": channel})})
        if not 0 <= min_confidence <= 1:
            raise ConfigError(f"min_confidence {min_confidence}: not a probability; give one from 0 to 1")
        if min_confidence > 0 and not recognizer.labels:
            raise ConfigError("min_confidence is a probability of emotions, and this model predicts dimensions alone")
        self.device = torch.device(device)
        self.recognizer = recognizer.to(self.device).eval()
        self.config, self.metadata, self.ood_detector = config, dict(metadata or {}), ood_detector
        self.min_confidence, self.path = min_confidence, path
        speakers = self.metadata.get("speakers")
        self.ood_unknown = None if speakers is None else unknown_reason(len(speakers["train"]))

    @classmethod
    @explaining_out_of_memory('use device="cpu" (--device cpu), or a smaller model')
    def load(
        cls,
        path: StrPath | None = None,
        device: torch.device | str = "auto",
        min_confidence: float | None = None,
        channel: Channel | None = None,
        emotions: Collection[str] | None = None,
    ) -> "Predictor":
        """Rebuilds the recognizer from a checkpoint alone, or opens an emotion model of the Hugging Face hub.

        Args:
            path: `best.safetensors` or `last.safetensors` of a run; or a published model: its id on the hub, such as
                `superb/wav2vec2-base-superb-er@refs/pr/2`, with a branch, tag or commit after the `@` if need be, or
                its folder; default: the model that ships with serx.
            device: `auto` is the first CUDA GPU, else the CPU.
            min_confidence: below this probability a prediction is labeled "unsure"; default: what the checkpoint says,
                which is 0 for that of a run and a published model.
            channel: of recordings with several: mix, left or right; default: as in training.
            emotions: those to choose among, two or more; default: all that the model knows.

        Raises:
            CheckpointError: the file is missing, damaged or not a checkpoint of serx.
            ConfigError: the device is not available, a published model cannot be used, or there is no such channel or
                emotion.
        """
        on_device = device if isinstance(device, torch.device) else choose_device(device, "device")
        path = default_checkpoint() if path is None else as_path(path, "checkpoint")
        recognizer, config, metadata, ood_detector = load_model(path, on_device)
        recognizer.choose_among(emotions)
        if min_confidence is None:
            min_confidence = float(metadata.get("min_confidence", 0.0))
        file = None if PUBLISHED in metadata else Path(path)
        return cls(recognizer, config, metadata, ood_detector, on_device, min_confidence, file, channel)

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, in the order of their probabilities."""
        return self.recognizer.labels

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions that it predicts, such as arousal, with the range of the ratings of its training."""
        return self.recognizer.dimensions

    @overload
    def __call__(self, audio: StrPath) -> Prediction: ...  # type: ignore[overload-overlap]  # str is a Sequence[str]

    @overload
    def __call__(self, audio: Samples, sample_rate: int) -> Prediction: ...

    @overload
    def __call__(self, audio: Iterable[StrPath]) -> list[Prediction]: ...

    @explaining_out_of_memory('give fewer or shorter recordings, or use device="cpu" (--device cpu)')
    def __call__(
        self, audio: StrPath | Samples | Iterable[StrPath], sample_rate: int | None = None
    ) -> Prediction | list[Prediction]:
        """Predicts one file, the samples of one clip, or a list of files.

        A recording that is longer than `data.max_seconds` is cut at its pauses as in `stream`. Its probabilities are
        the mean over its `segments`, weighted by their duration.

        Args:
            audio: a path; or samples, `(T,)`, `(channels, T)` or `(T, channels)`, where the longer axis is time, as
                floats with full scale 1 or as int16, int32 or uint8; or a list of paths.
            sample_rate: of samples, in Hz; a file has its own.

        Returns:
            One prediction, or one per path in their order. A file of a list that cannot be used gets a prediction with
            an `error`, and the others are predicted.

        Raises:
            AudioError: the single file or the samples cannot be used: damaged, empty, silent, NaN, too short, or long
                and without speech.
            ConfigError: `sample_rate` was given with a path, or `audio` is something else.
        """
        if isinstance(audio, np.ndarray | Tensor):
            return _or_raise(self._predict_samples(audio, sample_rate), ARRAY)
        is_single = isinstance(audio, str | os.PathLike)
        paths = as_paths(audio)
        if sample_rate is not None:
            raise ConfigError(FILE_HAS_RATE)
        if is_single:
            [prediction] = self._predict_files(paths)
            return _or_raise(prediction, paths[0])
        return self._predict_files(paths)

    def stream(
        self,
        audio: StrPath | Samples | Iterable[np.ndarray],
        sample_rate: int | None = None,
        notes: list[str] | None = None,
        adapt: bool = False,
    ) -> Iterator[PredictedSegment]:
        """Cuts running speech at its pauses and yields each segment with its prediction as soon as it has ended.

        A segment that is almost silent has a prediction with an `error`.

        Args:
            audio: a file of any length; or samples as above; or an iterable of consecutive mono blocks `(t,)` float32,
                such as `microphone_blocks(None, 16_000)`.
            sample_rate: of samples or blocks, in Hz; a file has its own.
            notes: a list, to which is added what a user should know about the audio, such as that its channels cancel
                each other.
            adapt: adapts to the speaker, who must be the same throughout: each segment is predicted with adaptation to
                the segments up to it (`serx.inference.adaptation.RunningAdaptation`).

        Yields:
            Segments of at most 6 s, with `start` and `end` in seconds, `waveform (T,)` at 16 kHz, and `prediction`.

        Raises:
            AudioError: the audio cannot be used. A fault in the middle of it is raised after the segments before it,
                and at its end that all of it was silent.
            ConfigError: `sample_rate` was given with a path, or `adapt` and the model cannot be adapted.
        """
        adaptation = RunningAdaptation(self.recognizer) if adapt else None
        blocks = mono_blocks(audio, sample_rate, self.config.data.channel, notes)
        return self._predict_segments(speech_segments(blocks), adaptation)

    @explaining_out_of_memory('give a shorter part of the recording, or use device="cpu" (--device cpu)')
    def explain(
        self,
        audio: StrPath | Samples,
        sample_rate: int | None = None,
        emotion: str | None = None,
        start: float | None = None,
        end: float | None = None,
        steps: int = STEPS,
        dimension: str | None = None,
    ) -> Explanation:
        """Computes which moments and frequencies the prediction of one clip rests on.

        Args:
            audio: a path, or samples, as for a prediction; the part at most `data.max_seconds` long.
            sample_rate: of samples, in Hz; a file has its own.
            emotion: to explain; default: the most probable one.
            start: where the part to explain begins, in seconds; default: where predictions begin.
            end: where it ends; default: where predictions end.
            steps: points of the integral; more of them lower the completeness error.
            dimension: such as arousal, to explain in place of an emotion; default, of a model without emotions: its
                first.

        Returns:
            The saliency of each frame and mel band, with the prediction (`serx.inference.explanation.Explanation`).

        Raises:
            AudioError: the audio cannot be used, or is too long.
            ConfigError: there is no such emotion or dimension, `sample_rate` was given with a path, or `start`, `end`
                or `steps` is out of range.
        """
        whole, begin, path, notes = part_of_recording(audio, sample_rate, start, end, self.config.data)
        settings, rate = self.config.data, self.config.data.sample_rate
        if len(whole) > settings.max_seconds * rate:
            length = f"{len(whole) / rate:.1f} s, data.max_seconds is {settings.max_seconds:g}"
            raise AudioError(path or ARRAY, "too_long", f"{length}; choose a part by its start and end in seconds")
        first, last = 0, len(whole)
        if settings.trim_db is not None:
            first, last = trim_bounds(
                whole, rate, settings.trim_db, settings.trim_keep_seconds, settings.trim_spread_db
            )
        clip = np.ascontiguousarray(whole[first:last])
        prediction = replace(self.predict_clips([clip])[0], path=path, warning=_warning(notes))
        return explain_clip(self.recognizer, clip, prediction, emotion, begin + first / rate, steps, dimension)

    @contextmanager
    def adapted_to(self, recordings: StrPath | Sequence[StrPath]) -> Iterator[dict[Path, str]]:
        """Adapts to one speaker with unlabeled recordings, within the `with` block (see `inference/adaptation.py`).

        Args:
            recordings: files or folders of the speaker: two or more, better ten, of several emotions.

        Yields:
            The files that could not be used, with the reasons.

        Raises:
            DataError: there is too little speech.
            ConfigError: the model cannot be adapted: it predicts dimensions, or was trained on a single speaker or on
                unknown ones.
        """
        paths = [recordings] if isinstance(recordings, str | os.PathLike) else recordings
        clips, skipped = self.adaptation_clips(audio_files(paths))
        with adapted(self.recognizer, clips):
            yield skipped

    def adaptation_clips(self, paths: Sequence[Path]) -> tuple[list[Tensor], dict[Path, str]]:
        """Waveforms `(T,)` to adapt to, and the reasons of the files that cannot be used.

        Recordings that are longer than a segment are cut at their pauses, so that the model adapts to clips like those
        that it will predict.
        """
        clips: list[np.ndarray] = []
        skipped: dict[Path, str] = {}
        for path in paths:
            try:
                is_long = audio_duration(path) > MAX_SECONDS
                clips_of_file = segment_clips(path, self.config.data) if is_long else [decode(path, self.config.data)]
            except AudioError as error:
                skipped[path] = f"{error.reason}: {error.detail}"
                continue
            if not clips_of_file:
                skipped[path] = "no speech was found"
            clips += clips_of_file
        return [torch.from_numpy(clip).to(self.device) for clip in clips], skipped

    def pool(self, segments: Iterable[PredictedSegment]) -> Prediction:
        """The prediction of a recording from those of its segments, weighted by their duration.

        Their waveforms are not kept. Without a usable segment it has an `error`.
        """
        found = tuple(replace(segment.prediction, start=segment.start, end=segment.end) for segment in segments)
        usable = [segment for segment in found if segment.error is None]
        if not usable:
            return Prediction(error=next((segment.error for segment in found), NO_SPEECH))
        seconds = np.array([(segment.end or 0.0) - (segment.start or 0.0) for segment in usable])

        def mean(of_segments: Sequence[Mapping[str, float]]) -> dict[str, float]:
            rows = np.array([[*of_segment.values()] for of_segment in of_segments])
            return dict(zip(of_segments[0], (seconds @ rows / seconds.sum()).tolist(), strict=True))

        pooled = mean([segment.probabilities for segment in usable])
        dimensions = mean([segment.dimensions for segment in usable])
        unusual = [segment.ood for segment in usable if segment.is_ood]
        ood = f"{len(unusual)} of {len(usable)} segments; the first: {unusual[0]}" if unusual else self.ood_unknown
        prediction = Prediction.from_probabilities(pooled, self.min_confidence, ood, dimensions)
        return replace(prediction, segments=found)

    @explaining_out_of_memory('give fewer or shorter recordings, or use device="cpu" (--device cpu)')
    def predict_clips(self, clips: Sequence[np.ndarray]) -> list[Prediction]:
        """Predicts clips `(T,)`, float32 at the model's rate, as `decode` returns them, in one batch.

        Raises:
            CheckpointError: the weights give values that are not finite.
        """
        if not clips:
            return []
        waveform, lengths = _padded(clips)
        predicted = self.recognizer.predictions(waveform.to(self.device), lengths.to(self.device))
        rows, values = (part.cpu().tolist() for part in predicted)
        self.check_probabilities(np.array([[*row, *of_clip] for row, of_clip in zip(rows, values, strict=True)]))
        names = [dimension.name for dimension in self.dimensions]
        detector = self.ood_detector
        ood = detector.explain(waveform, lengths, self.config.data.sample_rate) if detector else [None] * len(clips)
        return [
            Prediction.from_probabilities(
                dict(zip(self.labels, row, strict=True)),
                self.min_confidence,
                explanation or self.ood_unknown,
                dict(zip(names, of_clip, strict=True)),
            )
            for row, of_clip, explanation in zip(rows, values, ood, strict=True)
        ]

    def check_probabilities(self, probabilities: np.ndarray) -> None:
        """Raises CheckpointError if any of `probabilities (n, C)` is NaN: the weights are finite, but no model.

        They may also be values of dimensions.
        """
        if not np.isfinite(probabilities).all():
            name = f"{self.path}: " if self.path else ""
            raise CheckpointError(f"{name}model: its weights give probabilities that are not numbers")

    def _predict_files(self, paths: Sequence[Path]) -> list[Prediction]:
        predictions: list[Prediction] = []
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            notes: list[list[str]] = [[] for _ in batch]
            results = [self._decode(path, notes_of_file) for path, notes_of_file in zip(batch, notes, strict=True)]
            predicted = iter(self.predict_clips([clip for clip in results if isinstance(clip, np.ndarray)]))
            predictions += [
                replace(
                    result if isinstance(result, Prediction) else next(predicted), path=path, warning=_warning(found)
                )
                for path, result, found in zip(batch, results, notes, strict=True)
            ]
        return predictions

    def _decode(self, path: Path, notes: list[str]) -> np.ndarray | Prediction:
        """The clip of a file; or the prediction of a long recording; or why there is none."""
        try:
            return decode(path, self.config.data, notes=notes)
        except AudioError as error:
            if error.reason != "too_long":
                return Prediction(error=f"{error.reason}: {error.detail}")
        notes.clear()
        try:
            return self.pool(self.stream(path, notes=notes))
        except AudioError as error:
            return Prediction(error=f"{error.reason}: {error.detail}")

    def _predict_samples(self, samples: Samples, sample_rate: int | None) -> Prediction:
        rate, audio = checked_rate(sample_rate), self.config.data
        notes: list[str] = []
        mono = mono_samples(samples, ChannelMixer(audio.channel, rate, notes))
        if len(mono) > audio.max_seconds * rate:
            prediction = self.pool(self.stream(mono, rate))
        else:
            prediction = self.predict_clips([clip_from_mono(mono, rate, audio, ARRAY)])[0]
        return replace(prediction, warning=_warning(notes))

    def _predict_segments(
        self, segments: Iterable[Segment], adaptation: RunningAdaptation | None = None
    ) -> Iterator[PredictedSegment]:
        for segment in segments:
            adapted_to = None if adaptation is None else 0
            try:
                clip = clip_of_segment(segment, self.config.data)
                if adaptation is None:
                    prediction = self.predict_clips([clip])[0]
                else:
                    with adaptation.including(torch.from_numpy(clip).to(self.device)):
                        prediction = self.predict_clips([clip])[0]
                    adapted_to = adaptation.clips if adaptation.clips > 1 else 0
            except AudioError as error:
                prediction = Prediction(error=f"{error.reason}: {error.detail}")
            yield PredictedSegment(segment.start, segment.waveform, prediction, adapted_to)


def _or_raise(prediction: Prediction, source: StrPath) -> Prediction:
    """The prediction of a single clip; raises its `error`."""
    if prediction.error is not None:
        reason, _, detail = prediction.error.partition(": ")
        raise AudioError(source, reason, detail)
    return prediction


def _warning(notes: Sequence[str]) -> str | None:
    return "; ".join(notes) or None


def _padded(clips: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Clips `(T,)` as one batch `(B, T)`, zero beyond their lengths `(B,)`."""
    lengths = torch.tensor([len(clip) for clip in clips])
    waveform = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in zip(waveform, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return waveform, lengths
