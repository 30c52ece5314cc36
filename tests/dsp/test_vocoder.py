"""The phase vocoder changes frequency, duration and level of tones and voices as asked, and of each clip alone."""

import math

import numpy as np
import pytest
import soundfile
import torch

from serx.dsp import batching, vocoder
from serx.dsp.resampling import RATIO_STEPS
from serx.dsp.vocoder import change_pitch, change_pitch_and_tempo, change_tempo, window_size
from tests.conftest import RATE, batched, speechlike

WINDOW = window_size(RATE)
BOUNDS = (102, 160)  # tempos 0.8 to 1.25; pitches -3.9 to +3.9 semitones


def tone(hertz: float, samples: int = RATE, level: float = 0.5) -> torch.Tensor:
    return level * torch.from_numpy(np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).float()[None]


def stretched(x: torch.Tensor, step: int, bounds: tuple[int, int] = BOUNDS) -> torch.Tensor:
    y, lengths = change_tempo(x, torch.tensor([x.shape[1]]), torch.tensor([step]), bounds, WINDOW)
    return y[0, : int(lengths[0])]


def shifted(x: torch.Tensor, step: int) -> torch.Tensor:
    return change_pitch(x, torch.tensor([x.shape[1]]), torch.tensor([step]), BOUNDS, WINDOW)[0]


def both(x: torch.Tensor, pitch: int, tempo: int) -> torch.Tensor:
    steps = torch.tensor([pitch]), torch.tensor([tempo])
    y, lengths = change_pitch_and_tempo(x, torch.tensor([x.shape[1]]), *steps, (114, 144), BOUNDS, WINDOW)
    return y[0, : int(lengths[0])]


def frequency(y: torch.Tensor) -> float:
    """Frequency of a tone in Hz, to about a thousandth of a cent, from the phase of its demodulated signal."""
    z = np.asarray(y, dtype=np.float64)[2000:-2000]
    guess = np.abs(np.fft.rfft(z * np.hanning(len(z)), 1 << 18)).argmax() * RATE / (1 << 18)
    base = z * np.exp(-2j * np.pi * guess * np.arange(len(z)) / RATE)
    half = len(z) // 2
    window = np.hanning(half)
    turn = np.angle((base[half : 2 * half] * window).sum() * np.conj((base[:half] * window).sum()))
    return guess + turn / (2 * np.pi * half) * RATE


@pytest.mark.parametrize("step", [102, 114, 121, 127, 129, 143, 160])
@pytest.mark.parametrize("hertz", [220.0, 1234.5])
def test_a_pitch_shift_multiplies_the_frequency_and_keeps_duration_and_level(step, hertz):
    x = tone(hertz, 2 * RATE)
    y = shifted(x, step)
    assert len(y) == 2 * RATE
    cents = 1200 * math.log2(frequency(y) / hertz) - 1200 * math.log2(step / RATIO_STEPS)
    assert abs(cents) < 0.05
    level = 20 * torch.log10(y[2000:-2000].square().mean().sqrt() / x[0, 2000:-2000].square().mean().sqrt())
    assert abs(float(level)) < 0.1


@pytest.mark.parametrize("step", [102, 115, 127, 129, 141, 160])
def test_a_time_stretch_changes_the_duration_and_keeps_frequency_and_level(step):
    x = tone(440.0, 2 * RATE)
    y = stretched(x, step)
    assert len(y) == -(-2 * RATE * RATIO_STEPS // step)
    assert abs(1200 * math.log2(frequency(y) / 440.0)) < 0.05
    level = 20 * torch.log10(y[2000:-2000].square().mean().sqrt() / x.square().mean().sqrt())
    assert abs(float(level)) < 0.1


@pytest.mark.parametrize(("pitch", "tempo"), [(114, 160), (144, 160), (114, 102), (144, 102), (128, 141), (135, 128)])
def test_one_pass_changes_pitch_and_tempo_by_their_own_ratios(pitch, tempo):
    x = tone(440.0, 2 * RATE)
    y = both(x, pitch, tempo)
    assert len(y) == -(-2 * RATE * RATIO_STEPS // tempo)
    cents = 1200 * math.log2(frequency(y) / 440.0) - 1200 * math.log2(pitch / RATIO_STEPS)
    assert abs(cents) < 0.05
    level = 20 * torch.log10(y[2000:-2000].square().mean().sqrt() / x.square().mean().sqrt())
    assert abs(float(level)) < 0.1


def test_an_event_moves_to_its_stretched_time():
    x = torch.zeros(1, 2 * RATE)
    x[0, 20_000:20_800] = tone(1000.0, 800)[0]
    for step in (102, 160):
        power = stretched(x, step).square()
        center = float((power * torch.arange(len(power))).sum() / power.sum())
        assert abs(center - 20_400 * RATIO_STEPS / step) < 160  # 10 ms
    power = shifted(x, 120).square()
    assert abs(float((power * torch.arange(2 * RATE)).sum() / power.sum()) - 20_400) < 160


@pytest.mark.parametrize("kind", ["pitch_shift", "time_stretch", "pitch_tempo"])
@pytest.mark.parametrize("device", ["cpu", "like a gpu"])
def test_a_clip_does_not_depend_on_other_clips_padding_or_bounds(kind, device, clips, monkeypatch):
    steps = torch.tensor([104, 119, 155, 131])
    x, lengths = batched(clips, extra=7777)

    def change(x, lengths, steps, bounds):
        if kind == "pitch_shift":
            return change_pitch(x, lengths, steps, bounds, WINDOW), lengths
        if kind == "pitch_tempo":
            tempo, tempos = 256 - steps, (256 - bounds[1], 256 - bounds[0])
            return change_pitch_and_tempo(x, lengths, steps, tempo, bounds, tempos, WINDOW)
        return change_tempo(x, lengths, steps, bounds, WINDOW)

    monkeypatch.setattr(batching, "_reads_without_waiting", lambda tensor: device == "cpu")
    together, new = change(x, lengths, steps, (96, 168))
    monkeypatch.undo()
    for i, wave in enumerate(clips):
        alone, count = change(*batched([wave]), steps[i : i + 1], (int(steps[i]), int(steps[i])))
        size = int(count[0])
        assert size == int(new[i])
        torch.testing.assert_close(alone[0, :size], together[i, :size], rtol=0, atol=2e-6)
        assert not alone[0, size:].any() and not together[i, size:].any()


def test_ratio_one_copies_a_clip_bit_for_bit_in_any_batch(clips):
    x, lengths = batched(clips)
    steps = torch.tensor([128, 110, 128, 150])
    y, new = change_tempo(x, lengths, steps, (110, 150), WINDOW)
    z = change_pitch(x, lengths, steps, (110, 150), WINDOW)
    w, _ = change_pitch_and_tempo(x, lengths, steps, steps, (110, 150), (110, 150), WINDOW)
    for i in (0, 2):
        assert torch.equal(y[i, : x.shape[1]], x[i]) and torch.equal(z[i], x[i])
        assert torch.equal(w[i, : x.shape[1]], x[i]) and not w[i, x.shape[1] :].any()
        assert not y[i, x.shape[1] :].any()
        assert new[i] == lengths[i]


def test_a_batch_of_unchanged_or_empty_clips_is_copied():
    x = torch.from_numpy(speechlike(0.5, 200, 3))[None].repeat(3, 1)
    lengths, unchanged = torch.tensor([x.shape[1], 0, 100]), torch.full((3,), 128)
    x = x * (torch.arange(x.shape[1]) < lengths[:, None])
    assert torch.equal(change_pitch(x, lengths, unchanged, BOUNDS, WINDOW), x)
    changed = torch.tensor([128, 110, 128])  # of the empty clip
    assert torch.equal(change_pitch(x, lengths, changed, BOUNDS, WINDOW), x)
    y, new = change_tempo(x, lengths, changed, BOUNDS, WINDOW)
    assert torch.equal(y[:, : x.shape[1]], x) and not y[:, x.shape[1] :].any() and torch.equal(new, lengths)


def test_a_clip_is_unchanged_before_its_first_slip():
    x = torch.from_numpy(speechlike(0.5, 200, 3))[None] + tone(300.0, RATE // 2)
    for step in (120, 136):  # whose first slip is at frame 8
        torch.testing.assert_close(stretched(x, step)[:1000], x[0, :1000], rtol=0, atol=2e-6)
    slowest, nearly = stretched(x, 64, (64, 65)), stretched(x, 65, (64, 65))
    torch.testing.assert_close(slowest[:256], nearly[:256], rtol=0, atol=2e-6)  # they use the same frames


@pytest.mark.parametrize("size", [1, 2, 100, 300, 1023])
def test_clips_shorter_than_a_frame_keep_their_length_and_stay_finite(size):
    x = torch.from_numpy(speechlike(0.1, 200, 3))[None, :size] + 0.1
    for step in (102, 160):
        y, z = stretched(x, step), shifted(x, step)
        assert len(y) == -(-size * RATIO_STEPS // step) and len(z) == size
        assert y.isfinite().all() and y.abs().max() < 2 * x.abs().max()
        assert z.isfinite().all() and z.abs().max() < 2 * x.abs().max()


def test_silence_stays_silent_and_a_tone_after_it_keeps_its_level():
    x = torch.zeros(1, 2 * RATE)
    assert not stretched(x, 110).any() and not shifted(x, 110).any()
    x[0, RATE:] = tone(500.0)[0]
    loud = stretched(x, 110)[-10_000:-3000]
    assert abs(float(loud.square().mean().sqrt()) - 0.5 / math.sqrt(2)) < 0.01


def test_each_bin_takes_the_nearest_peak():
    power = torch.tensor([[[1.0, 5, 1, 0, 0, 0, 2, 7, 3, 0]]])
    assert vocoder._nearest_peak(power)[0, 0].tolist() == [1, 1, 1, 1, 1, 7, 7, 7, 7, 7]


def test_composing_slips_in_blocks_equals_composing_them_one_by_one():
    random = torch.Generator().manual_seed(0)
    turn = torch.polar(torch.ones(2, 20, 6), 6 * torch.rand(2, 20, 6, generator=random))
    source = torch.randint(6, (2, 20, 6), generator=random)
    phasor, expected = torch.ones(2, 6, dtype=torch.complex64), []
    for i in range(20):
        phasor = phasor.gather(1, source[:, i]) * turn[:, i]
        expected.append(phasor)
    torch.testing.assert_close(vocoder._compose(turn, source), torch.stack(expected, 1))


def _convergence(y: np.ndarray, x: np.ndarray, tempo: float) -> float:
    """Spectral convergence in dB: the error of the magnitudes of `y` relative to those of `x` at the same moments."""
    at = np.arange(4, int(len(x) / tempo / 256) - 4) * 256

    def magnitudes(wave, centers):
        padded = np.pad(wave, (512, 2048))
        frames = padded[centers[:, None] + np.arange(1024)]
        return np.abs(np.fft.rfft(frames * np.hanning(1025)[:-1]))

    expected, measured = magnitudes(x, np.round(at * tempo).astype(int)), magnitudes(y, at)
    return 20 * np.log10(np.linalg.norm(measured - expected) / np.linalg.norm(expected))


def _voices(root, count: int) -> list[np.ndarray]:
    paths = sorted(root.glob("ravdess16k/*/*"))
    return [soundfile.read(p, dtype="float32")[0][8000:56_000] for p in paths[:: len(paths) // count][:count]]


@pytest.mark.speech
def test_stretched_voices_keep_their_spectrum_better_than_with_librosa(speech_root):
    import librosa

    ours, theirs = [], []
    for wave in _voices(speech_root, 6):
        for step in (104, 150):
            tempo = step / RATIO_STEPS
            ours.append(_convergence(stretched(torch.from_numpy(wave)[None], step).numpy(), wave, tempo))
            theirs.append(_convergence(librosa.effects.time_stretch(wave, rate=tempo, n_fft=1024), wave, tempo))
    print(f"spectral convergence: serx {np.mean(ours):.1f} dB, librosa {np.mean(theirs):.1f} dB")
    assert np.mean(ours) < np.mean(theirs) - 3


@pytest.mark.speech
@pytest.mark.slow
def test_voices_keep_their_pitch_when_stretched_and_change_it_by_the_ratio_when_shifted(speech_root):
    import librosa

    def contour(wave: torch.Tensor) -> np.ndarray:
        return librosa.pyin(wave.numpy(), fmin=70, fmax=600, sr=RATE, hop_length=256)[0]  # NaN where unvoiced

    def cents(y: torch.Tensor, before: np.ndarray, tempo: float) -> float:
        """Median difference of the pitch of `y` from that of the same moments before, where both are voiced."""
        after = contour(y)
        moment = np.minimum(np.round(np.arange(len(after)) * tempo).astype(int), len(before) - 1)
        return 1200 * float(np.nanmedian(np.log2(after / before[moment])))

    for wave in _voices(speech_root, 3):
        x = torch.from_numpy(wave)
        before = contour(x)
        for step in (104, 154):
            assert abs(cents(stretched(x[None], step), before, step / RATIO_STEPS)) < 20
        for step in (114, 143):
            moved = cents(shifted(x[None], step), before, 1.0)
            assert abs(moved - 1200 * math.log2(step / RATIO_STEPS)) < 20
