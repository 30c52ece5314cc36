"""Running speech is cut at its pauses, where they are and as soon as they come, and nothing of it is lost."""

import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from serx.data.synthetic.corpus import make_corpus
from serx.inference.segmentation import MARGIN_SECONDS, MOST_SECONDS, PAUSE_SECONDS, RATE, SpeechSegmenter, utterances

PAUSE = 0.8  # seconds between clips, here


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> list[np.ndarray]:
    """Sixteen clips of two made-up voices, each `(T,)`."""
    root = tmp_path_factory.mktemp("voices")
    make_corpus(root, 2, 1, 0)
    return [soundfile.read(path, dtype="float32")[0] for path in sorted(root.rglob("*.wav"))]


def quiet(seconds: float, seed: int = 0) -> np.ndarray:
    """The faint noise of a room."""
    return 1e-4 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def talk(clips: list[np.ndarray], pause: float = PAUSE) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The clips in a row, a pause before each and behind the last; where each begins and ends, in seconds."""
    parts, marks, at = [quiet(pause)], [], pause
    for number, clip in enumerate(clips):
        marks.append((at, at + len(clip) / RATE))
        parts += [clip, quiet(pause, number)]
        at = marks[-1][1] + pause
    return np.concatenate(parts), marks


def in_blocks(recording: np.ndarray, size: int) -> list[np.ndarray]:
    return [recording[start : start + size] for start in range(0, len(recording), size)]


def test_each_utterance_is_found_where_it_was_spoken(spoken):
    recording, marks = talk(spoken)
    found = list(utterances([recording]))
    assert len(found) == len(marks)
    for utterance, (start, end) in zip(found, marks, strict=True):
        assert start - MARGIN_SECONDS - 0.05 <= utterance.start <= start + 0.15
        assert end - 0.15 <= utterance.end <= end + MARGIN_SECONDS + 0.15
        first = round(utterance.start * RATE)
        np.testing.assert_array_equal(utterance.waveform, recording[first : first + len(utterance.waveform)])


@pytest.mark.parametrize("size", [100, 512, 1600, 7777])
def test_blocks_of_any_size_are_cut_alike(spoken, size):
    recording, _ = talk(spoken[:4])
    whole, parts = list(utterances([recording])), list(utterances(in_blocks(recording, size)))
    assert [u.start for u in parts] == [u.start for u in whole]
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one.waveform, other.waveform)


def test_an_utterance_is_told_with_the_pause_behind_it_and_not_later(spoken):
    recording, marks = talk(spoken[:3])
    segmenter, told = SpeechSegmenter(), []
    for number, block in enumerate(in_blocks(recording, 160)):
        told += [(number + 1) * 160 / RATE for _ in segmenter.hear(block)]
    for when, (_, end) in zip(told, marks, strict=True):
        assert end + PAUSE_SECONDS - 0.15 <= when <= end + PAUSE_SECONDS + 0.15


def test_who_speaks_without_a_pause_is_cut_and_nothing_is_lost_between(spoken):
    recording, marks = talk([np.concatenate(spoken)])
    found = list(utterances(in_blocks(recording, 1000)))
    assert len(found) >= int((marks[0][1] - marks[0][0]) / MOST_SECONDS)
    assert all(len(u.waveform) <= (MOST_SECONDS + 0.05) * RATE for u in found)
    for before, after in pairwise(found):
        assert after.start == pytest.approx(before.end, abs=1e-9)
    assert found[0].start <= marks[0][0] + 0.1 and found[-1].end >= marks[0][1] - 0.1


def test_speech_that_stops_just_before_a_cut_is_due_is_told_once(spoken):
    monologue = np.concatenate(spoken)
    for seconds in np.arange(MOST_SECONDS - 0.5, MOST_SECONDS + 0.1, 0.1):
        recording, _ = talk([monologue[: round(seconds * RATE)]])
        found = list(utterances([recording]))
        assert sum(len(u.waveform) for u in found) <= (seconds + PAUSE_SECONDS + 2 * MARGIN_SECONDS) * RATE
        assert len(found) <= 2 and len(found[0].waveform) >= 5 * RATE


def test_a_recording_that_ends_in_the_middle_of_a_word_is_heard_to_its_end(spoken):
    recording, marks = talk(spoken[:2])
    recording = recording[: round((marks[1][1] - 0.2) * RATE)]
    found = list(utterances([recording]))
    assert len(found) == 2
    assert found[1].end == pytest.approx(len(recording) / RATE)


def test_silence_noise_and_clicks_hold_no_utterance():
    clicks = np.zeros(5 * RATE, np.float32)
    clicks[::RATE] = 0.9
    steps = 0.05 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    assert list(utterances([np.zeros(5 * RATE, np.float32), clicks, steps, quiet(5)])) == []


def test_a_syllable_alone_is_no_utterance(spoken):
    syllable = spoken[4][2000 : 2000 + round(0.15 * RATE)]
    recording, _ = talk([spoken[0], syllable, spoken[1]])
    assert len(list(utterances([recording]))) == 2


def test_an_hour_of_silence_is_not_kept_in_memory():
    segmenter = SpeechSegmenter()
    for _ in range(300):
        assert list(segmenter.hear(quiet(0.2))) == []
    assert len(segmenter._kept) < RATE


def test_the_detector_leaves_the_number_of_threads_alone():
    program = "import torch; torch.set_num_threads(2); from serx.inference.segmentation import SpeechSegmenter; SpeechSegmenter()"
    told = [sys.executable, "-c", f"{program}; print(torch.get_num_threads())"]
    assert subprocess.run(told, capture_output=True, text=True, check=True).stdout == "2\n"


@pytest.mark.speech
def test_utterances_of_real_speech_are_found_where_they_were_spoken(speech_root):
    paths = sorted((speech_root / "ravdess16k/Actor_05").glob("*.flac"))[::6]
    recording, marks = talk([soundfile.read(path, dtype="float32")[0] for path in paths])
    found = list(utterances(in_blocks(recording, 1600)))
    assert len(found) == len(marks)
    for utterance, (start, end) in zip(found, marks, strict=True):
        assert start <= utterance.start and utterance.end <= end + PAUSE
        assert 1.0 < utterance.end - utterance.start < end - start
