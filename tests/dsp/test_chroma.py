"""Chroma equals librosa's, notes lie in their class, and chords on the tonal circles."""

import librosa
import numpy as np
import pytest
import torch

from serx.dsp.chroma import chroma_filters, tonnetz
from serx.features.front_ends import CQT_BINS, CQT_LOWEST, CQT_OCTAVES
from tests.conftest import RATE
from tests.dsp.test_descriptors import HOP, N_FFT, rows_of, tone
from tests.features.test_stack import worst_relative_error

NOTES = ["C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B"]


def librosa_chroma(wave: np.ndarray) -> np.ndarray:
    return librosa.feature.chroma_stft(y=wave, sr=RATE, n_fft=N_FFT, hop_length=HOP, tuning=0.0)


def assert_equals_librosa(waves: list[np.ndarray]) -> None:
    for wave, chroma, centroids in zip(waves, rows_of("chroma", *waves), rows_of("tonnetz", *waves), strict=True):
        assert worst_relative_error(chroma, librosa_chroma(wave)) < 1e-4
        assert worst_relative_error(centroids, librosa.feature.tonnetz(chroma=librosa_chroma(wave), sr=RATE)) < 1e-4


def test_chroma_and_tonnetz_equal_librosa(clips):
    assert_equals_librosa(clips)


@pytest.mark.speech
def test_chroma_and_tonnetz_equal_librosa_on_real_speech(speech_root):
    files = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[:4]
    assert_equals_librosa([librosa.load(path, sr=RATE)[0] for path in files])


def test_chroma_filters_equal_librosa():
    for rate, n_fft in ((16000, 1024), (22050, 2048), (8000, 400)):
        reference = librosa.filters.chroma(sr=rate, n_fft=n_fft, tuning=0.0).T
        assert worst_relative_error(chroma_filters(rate, n_fft // 2 + 1, "cpu").numpy(), reference) < 1e-6


@pytest.mark.parametrize("name", ["chroma", "chroma_cqt"])
@pytest.mark.parametrize("note", NOTES)
def test_a_note_has_its_maximum_in_its_own_class(name, note):
    for octave in (4, 5):
        chroma = rows_of(name, tone(librosa.note_to_hz(f"{note}{octave}")))[0]
        middle = chroma[:, 31]
        assert middle.argmax() == NOTES.index(note)
        assert middle.max() == 1.0


def test_constant_q_chroma_is_close_to_librosa(clips):
    """nnAudio's kernels equal librosa's to about 1 %."""
    for wave, values in zip(clips, rows_of("chroma_cqt", *clips), strict=True):
        reference = librosa.feature.chroma_cqt(
            y=wave,
            sr=RATE,
            hop_length=HOP,
            fmin=CQT_LOWEST,
            n_octaves=CQT_OCTAVES,
            bins_per_octave=CQT_BINS,
            tuning=0.0,
        )
        assert values.shape == reference.shape
        assert np.abs(values - reference).mean() < 0.02
        assert np.corrcoef(values.ravel(), reference.ravel())[0, 1] > 0.99


def tonal_point(note: str) -> np.ndarray:
    """Harte, Sandler & Gasser (2006): angles 7 k pi / 6, 3 k pi / 2 and 2 k pi / 3 for class k."""
    k = NOTES.index(note)
    angles = [(7 * np.pi / 6 * k, 1.0), (3 * np.pi / 2 * k, 1.0), (2 * np.pi / 3 * k, 0.5)]
    return np.array([f(angle) * radius for angle, radius in angles for f in (np.sin, np.cos)])


@pytest.mark.parametrize("chord", [["C"], ["C", "E", "G"], ["A", "C", "E"], ["B", "D", "F", "G"]])
def test_the_tonal_centroid_of_a_chord_is_the_mean_of_its_notes(chord):
    chroma = torch.zeros(1, 1, 12)
    chroma[0, 0, [NOTES.index(note) for note in chord]] = 0.7
    assert np.abs(tonnetz(chroma)[0, 0].numpy() - np.mean([tonal_point(note) for note in chord], axis=0)).max() < 1e-6


def test_a_synthesized_chord_lies_in_the_direction_of_its_notes():
    chord = sum(tone(librosa.note_to_hz(note)) for note in ("C6", "E6", "G6")) / 3
    expected = np.mean([tonal_point(note) for note in "CEG"], axis=0)
    measured = rows_of("tonnetz", chord)[0][:, 31]  # shorter, since classes leak into their neighbors
    assert measured @ expected > 0.97 * np.linalg.norm(measured) * np.linalg.norm(expected)


def test_silence_has_zero_chroma():
    silence = np.zeros(4000, np.float32)
    for name in ("chroma", "chroma_cqt", "tonnetz"):
        assert not rows_of(name, silence)[0].any()
