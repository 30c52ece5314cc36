"""Altered copies of a recording are found among other clips, synthetic or real, and different recordings are not."""

import io

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
import torch

from serx.data.copies.candidates import fingerprints, nominate
from serx.data.copies.pairs import Copy, copies_among
from serx.data.copies.whitened_correlation import copy_correlation
from serx.data.synthetic.corpus import Take, list_takes
from tests.conftest import RATE, batched


def rms(x):
    return np.sqrt(np.mean(x**2))


def encoded(x, container, subtype, level):
    file = io.BytesIO()
    soundfile.write(file, np.clip(x, -1, 1), RATE, format=container, subtype=subtype, compression_level=level)
    file.seek(0)
    return soundfile.read(file)[0]


def resampled(x, lower_rate):
    return soxr.resample(soxr.resample(x, RATE, lower_rate), lower_rate, RATE)


def faster(x, speed):
    return soxr.resample(x, 1000 * RATE, round(1000 * RATE / speed))


def filtered(x, kind, hertz):
    return scipy.signal.sosfilt(scipy.signal.butter(4, hertz, kind, fs=RATE, output="sos"), x)


def noisy(x, snr_db):
    return x + np.random.default_rng(1).standard_normal(len(x)) * rms(x) * 10 ** (-snr_db / 20)


def with_tone(x, hertz):
    return x + rms(x) * np.sqrt(2) * np.sin(2 * np.pi * hertz * np.arange(len(x)) / RATE)


def in_a_room(x, rt60_seconds=0.25, drr_db=0.0):
    n = round(rt60_seconds * RATE)
    tail = np.random.default_rng(0).standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail *= 10 ** (-drr_db / 20) / np.sqrt((tail[1:] ** 2).sum())
    tail[0] = 1
    return scipy.signal.fftconvolve(x, tail)[: len(x)]


def piece(x, start, end):
    return x[round(start * len(x)) : round(end * len(x))]


def pre_emphasized(x):
    return np.append(x[0], x[1:] - 0.97 * x[:-1])


ALTERATIONS = {
    "the same": lambda x: x,
    "26 dB softer": lambda x: 0.05 * x,
    "clipped": lambda x: np.clip(x, -rms(x), rms(x)),
    "upside down": lambda x: -x,
    "offset of 0.002": lambda x: x + 0.002,
    "offset of 0.01": lambda x: x + 0.01,
    "offset of 0.05": lambda x: x + 0.05,
    "hum of 50 Hz": lambda x: with_tone(x, 50),
    "hum of 60 Hz": lambda x: with_tone(x, 60),
    "high-pass, 200 Hz": lambda x: filtered(x, "highpass", 200),
    "high-pass, 500 Hz": lambda x: filtered(x, "highpass", 500),
    "low-pass, 1 kHz": lambda x: filtered(x, "lowpass", 1000),
    "telephone band": lambda x: filtered(x, "bandpass", (300, 3400)),
    "pre-emphasis": pre_emphasized,
    "first 70 %": lambda x: piece(x, 0, 0.7),
    "first half": lambda x: piece(x, 0, 0.5),
    "second half": lambda x: piece(x, 0.5, 1),
    "middle half": lambda x: piece(x, 0.25, 0.75),
    "small room": in_a_room,
    "larger room": lambda x: in_a_room(x, 0.4),
    "white noise, 20 dB": lambda x: noisy(x, 20),
    "white noise, 10 dB": lambda x: noisy(x, 10),
    "small mp3": lambda x: encoded(x, "MP3", "MPEG_LAYER_III", 0.9),
    "worst ogg": lambda x: encoded(x, "OGG", "VORBIS", 1.0),
    "through 8 kHz": lambda x: resampled(x, 8_000),
    "through 44.1 kHz": lambda x: resampled(x, 44_100),
    "silence around": lambda x: np.pad(x, (RATE, RATE // 2)),
    "1 % faster": lambda x: faster(x, 1.01),
    "5 % faster": lambda x: faster(x, 1.05),
    "5 % slower": lambda x: faster(x, 0.95),
    "10 % faster": lambda x: faster(x, 1.1),
    "telephone band and noise": lambda x: noisy(filtered(x, "bandpass", (300, 3400)), 10),
    "second half, pre-emphasis": lambda x: pre_emphasized(piece(x, 0.5, 1)),
    "room and telephone band": lambda x: filtered(in_a_room(x), "bandpass", (300, 3400)),
    "3 % slower in a room": lambda x: in_a_room(faster(x, 0.97)),
    "0.1 % faster": lambda x: faster(x, 1.001),
    "middle 80 %, 3 % faster": lambda x: piece(faster(x, 1.03), 0.1, 0.9),
    "5 % slower, start cut off": lambda x: faster(x, 0.95)[RATE // 5 :],
    "10 % faster, silence around": lambda x: np.pad(faster(x, 1.1), (RATE // 2, RATE // 3)),
    "piece, 4 % faster in a room": lambda x: in_a_room(piece(faster(x, 1.04), 0.2, 1)),
    "hum and mp3": lambda x: encoded(with_tone(x, 50), "MP3", "MPEG_LAYER_III", 0.5),
}


def fingerprints_of(waves, rate=RATE, extra=0) -> list[torch.Tensor]:
    found = []
    for start in range(0, len(waves), 16):
        found += fingerprints(*batched([np.asarray(w, np.float32) for w in waves[start : start + 16]], extra), rate)
    return found


def copies_of(waves, groups) -> list[Copy]:
    return copies_among(nominate(fingerprints_of(waves), groups), waves.__getitem__, RATE)


def pairs_of(waves, groups) -> set[tuple[int, int]]:
    return {(copy.first, copy.second) for copy in copies_of(waves, groups)}


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    """Synthetic clips of three speakers with the same statements and emotions."""
    return [take.samples(seed=0) for take in list_takes(3, 2)]


@pytest.mark.parametrize("kind", ALTERATIONS)
def test_an_altered_copy_is_found_and_no_other_clip(speech, kind):
    copied, n = [2, 20, 33], len(speech)
    waves = [*speech, *(ALTERATIONS[kind](speech[i].astype(float)) for i in copied)]
    assert pairs_of(waves, [0] * n + [1] * len(copied)) == {(i, n + k) for k, i in enumerate(copied)}
    assert pairs_of(waves, [0] * len(waves)) == set()  # clips of one group are not compared


def test_different_clips_are_no_copies_though_one_voice_says_the_same(speech):
    assert pairs_of(speech, range(len(speech))) == set()
    same_rhythm = [Take(1, "calm", False, 2, 1).samples(seed=0), Take(21, "sad", True, 2, 1).samples(seed=0)]
    assert pairs_of(same_rhythm, [0, 1]) == set()


def test_the_correlation_of_a_copy_is_one_at_any_level_offset_and_polarity():
    noise = np.random.default_rng(0).standard_normal(RATE)
    assert copy_correlation(noise, -0.001 * np.pad(noise, (5_000, 700)) + 4, RATE) == pytest.approx(1, abs=0.02)
    assert copy_correlation(noise[:8_000], noise, RATE) == pytest.approx(1, abs=0.1)
    assert copy_correlation(noise, np.random.default_rng(1).standard_normal(RATE), RATE) < 0.1
    assert copy_correlation(noise, np.zeros(RATE), RATE) == 0


@pytest.mark.parametrize("speed", [0.8, 0.93, 1.04, 1.25])
def test_the_correlation_of_a_faster_copy_is_high_at_its_speed_only(speed):
    noise = np.random.default_rng(0).standard_normal(RATE)
    copy = faster(noise, speed)
    assert copy_correlation(noise, copy, RATE, len(noise) / len(copy)) > 0.85
    assert copy_correlation(noise, copy, RATE) < 0.1


def test_half_of_the_frequencies_covered_by_noise_leave_half_of_the_correlation():
    random = np.random.default_rng(0)
    noise = random.standard_normal(4 * RATE)
    spectrum = np.fft.rfft(random.standard_normal(4 * RATE))
    spectrum[round(4 * (150 + 3800) / 2) :] = 0
    assert copy_correlation(noise, noise + 100 * np.fft.irfft(spectrum), RATE) == pytest.approx(0.5, abs=0.1)


def test_fingerprints_do_not_depend_on_the_batch_the_padding_the_level_or_an_offset(speech):
    together = fingerprints_of(speech[:8], extra=4_000)
    for wave, segments in zip(speech, together, strict=False):
        for same in (wave, 0.01 * wave, wave + 0.3):
            torch.testing.assert_close(fingerprints_of([same])[0], segments, rtol=0, atol=5e-3)


def test_silence_a_steady_tone_and_short_clips_are_copies_of_nothing(speech):
    tone = 0.1 * np.sin(2 * np.pi * 400 * np.arange(2 * RATE) / RATE)
    waves = [np.zeros(RATE), np.zeros(10), tone, tone.copy(), speech[0], speech[0][:1_000], np.full(RATE, 0.3)]
    assert all(clip.isfinite().all() for clip in fingerprints_of(waves))
    assert pairs_of(waves, range(len(waves))) == set()
    assert pairs_of(waves[:2], [0, 1]) == set()


def test_copies_are_sorted_by_correlation_and_each_pair_is_named_once(speech):
    waves = [speech[0], noisy(speech[0].astype(float), 10), speech[0], speech[7]]
    copies = copies_of(waves, range(4))
    pairs = [(copy.first, copy.second) for copy in copies]
    assert pairs[0] == (0, 2) and (0, 1) in pairs and len(pairs) == len(set(pairs))
    assert not any(3 in pair for pair in pairs)
    assert [copy.correlation for copy in copies] == sorted((copy.correlation for copy in copies), reverse=True)


def test_a_search_in_many_cells_finds_the_same_copies(speech, monkeypatch):
    waves = [*speech, *(0.5 * wave for wave in speech)]
    n = len(speech)
    monkeypatch.setattr("serx.data.copies.candidates.CELL", 32)
    assert pairs_of(waves, [0] * n + [1] * n) == {(i, n + i) for i in range(n)}


def test_a_copy_at_another_sample_rate_has_the_same_fingerprints(speech):
    low = fingerprints_of([speech[0]])[0].float()
    high = fingerprints_of([soxr.resample(speech[0], RATE, 44_100)], 44_100)[0].float()
    assert (low[: len(high)] * high[: len(low)]).sum(1).median() > 0.97


def decoded(paths) -> list[np.ndarray]:
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


@pytest.mark.speech
def test_the_only_copy_in_real_speech_is_the_clip_that_ravdess_has_twice(speech_root):
    paths = sorted(speech_root.glob("ravdess16k/Actor_0[5-9]/*.flac")) + sorted(
        speech_root.glob("tess16k/*_sad/*.flac")
    )
    stems = [{paths[i].stem, paths[j].stem} for i, j in pairs_of(decoded(paths), range(len(paths)))]
    assert stems == [{"03-01-03-01-02-01-07", "03-01-03-01-02-02-07"}]


@pytest.mark.parametrize("speed", [0.9, 0.95, 1.05, 1.1])
def test_clips_at_8_khz_are_compared_at_every_speed(speed):
    noise = np.random.default_rng(0).standard_normal(16_000)
    changed = faster(noise, speed)
    assert copy_correlation(noise, noise[1000:], 8000, speed) < 0.5
    assert copy_correlation(noise, changed, 8000, speed) > 0.5
