"""Running speech is cut at its pauses, at the right times, as early as possible, and without losing any of it."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from serx.data.synthetic.corpus import make_corpus
from serx.inference.segmentation import (
    MARGIN_SECONDS,
    MAX_SECONDS,
    PAUSE_SECONDS,
    RATE,
    SpeechSegmenter,
    speech_segments,
)

GAP = 0.8  # seconds between the clips of `concatenated`


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> list[np.ndarray]:
    """Sixteen synthetic clips of two speakers, each `(T,)`."""
    root = tmp_path_factory.mktemp("speakers")
    make_corpus(root, 2, 1, 0)
    return [soundfile.read(path, dtype="float32")[0] for path in sorted(root.rglob("*.wav"))]


def quiet(seconds: float, seed: int = 0) -> np.ndarray:
    """The faint noise of a room."""
    return 1e-4 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def concatenated(clips: list[np.ndarray], gap: float = GAP) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The clips with a gap before, between and after them; and the start and end of each in seconds."""
    parts, times, position = [quiet(gap)], [], gap
    for number, clip in enumerate(clips):
        times.append((position, position + len(clip) / RATE))
        parts += [clip, quiet(gap, number)]
        position = times[-1][1] + gap
    return np.concatenate(parts), times


def in_blocks(recording: np.ndarray, size: int) -> list[np.ndarray]:
    return [recording[start : start + size] for start in range(0, len(recording), size)]


def test_each_clip_becomes_a_segment_at_its_time(spoken):
    recording, times = concatenated(spoken)
    segments = list(speech_segments([recording]))
    assert len(segments) == len(times)
    for segment, (start, end) in zip(segments, times, strict=True):
        assert start - MARGIN_SECONDS - 0.05 <= segment.start <= start + 0.15
        assert end - 0.15 <= segment.end <= end + MARGIN_SECONDS + 0.15
        first = round(segment.start * RATE)
        np.testing.assert_array_equal(segment.waveform, recording[first : first + len(segment.waveform)])


@pytest.mark.parametrize("size", [100, 512, 1600, 7777])
def test_segments_do_not_depend_on_the_block_size(spoken, size):
    recording, _ = concatenated(spoken[:4])
    expected, segments = list(speech_segments([recording])), list(speech_segments(in_blocks(recording, size)))
    assert [segment.start for segment in segments] == [segment.start for segment in expected]
    for segment, same in zip(segments, expected, strict=True):
        np.testing.assert_array_equal(segment.waveform, same.waveform)


def test_a_segment_is_returned_as_soon_as_its_pause_is_over(spoken):
    recording, times = concatenated(spoken[:3])
    segmenter, returned_at = SpeechSegmenter(), []
    for number, block in enumerate(in_blocks(recording, 160)):
        returned_at += [(number + 1) * 160 / RATE for _ in segmenter.push(block)]
    for seconds, (_, end) in zip(returned_at, times, strict=True):
        assert end + PAUSE_SECONDS - 0.15 <= seconds <= end + PAUSE_SECONDS + 0.15


def test_speech_without_pauses_is_cut_and_no_sample_is_lost(spoken):
    recording, times = concatenated([np.concatenate(spoken)])
    segments = list(speech_segments(in_blocks(recording, 1000)))
    assert len(segments) >= int((times[0][1] - times[0][0]) / MAX_SECONDS)
    assert all(len(segment.waveform) <= (MAX_SECONDS + 0.05) * RATE for segment in segments)
    for before, after in pairwise(segments):
        assert after.start == pytest.approx(before.end, abs=1e-9)
    assert segments[0].start <= times[0][0] + 0.1 and segments[-1].end >= times[0][1] - 0.1


def test_speech_that_ends_near_the_maximum_length_is_returned_once(spoken):
    monologue = np.concatenate(spoken)
    for seconds in np.arange(MAX_SECONDS - 0.5, MAX_SECONDS + 0.1, 0.1):
        recording, _ = concatenated([monologue[: round(seconds * RATE)]])
        segments = list(speech_segments([recording]))
        total = sum(len(segment.waveform) for segment in segments)
        assert total <= (seconds + PAUSE_SECONDS + 2 * MARGIN_SECONDS) * RATE
        assert len(segments) <= 2 and len(segments[0].waveform) >= 5 * RATE


def test_a_recording_that_ends_within_speech_is_segmented_to_its_end(spoken):
    recording, times = concatenated(spoken[:2])
    recording = recording[: round((times[1][1] - 0.2) * RATE)]
    segments = list(speech_segments([recording]))
    assert len(segments) == 2
    assert segments[1].end == pytest.approx(len(recording) / RATE)


def test_silence_noise_and_clicks_are_not_speech():
    clicks = np.zeros(5 * RATE, np.float32)
    clicks[::RATE] = 0.9
    noise = 0.05 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    assert list(speech_segments([np.zeros(5 * RATE, np.float32), clicks, noise, quiet(5)])) == []


def test_a_single_syllable_is_too_short_for_a_segment(spoken):
    syllable = spoken[4][2000 : 2000 + round(0.15 * RATE)]
    recording, _ = concatenated([spoken[0], syllable, spoken[1]])
    assert len(list(speech_segments([recording]))) == 2


def test_silence_is_not_kept_in_memory():
    segmenter = SpeechSegmenter()
    for _ in range(300):
        assert list(segmenter.push(quiet(0.2))) == []
    assert len(segmenter._buffer) < RATE


def test_loading_the_detector_keeps_the_number_of_threads():
    program = (
        "import torch; torch.set_num_threads(2); from serx.inference.segmentation import SpeechSegmenter; "
        "SpeechSegmenter(); print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


@pytest.mark.speech
def test_real_speech_becomes_a_segment_at_its_time(speech_root):
    paths = sorted((speech_root / "ravdess16k/Actor_05").glob("*.flac"))[::6]
    recording, times = concatenated([soundfile.read(path, dtype="float32")[0] for path in paths])
    segments = list(speech_segments(in_blocks(recording, 1600)))
    assert len(segments) == len(times)
    for segment, (start, end) in zip(segments, times, strict=True):
        assert start <= segment.start and segment.end <= end + GAP
        assert 1.0 < segment.end - segment.start < end - start
