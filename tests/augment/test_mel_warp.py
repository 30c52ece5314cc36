"""`MelWarp`: what it changes and leaves unchanged, and how close it comes to pitch shift and stretch of waveforms."""

import librosa
import numpy as np
import pytest
import torch

from serx.augment import MelWarp
from serx.dsp.mel_warp import Warp, stretch_frames, stretched_count
from serx.errors import ConfigError
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.seeding import ClipRandom
from tests.conftest import RATE, batched
from tests.dsp.test_descriptors import tone


def warp_of(rates: list[float], steps: list[int], slowest: float = 0.5) -> Warp:
    return Warp(torch.tensor(rates), torch.tensor(steps), slowest)


def drawn(transform: MelWarp, clips: int, key: int = 7) -> Warp:
    return transform.draw(torch.full((clips,), 16000), ClipRandom(torch.arange(clips), key), RATE)


@pytest.mark.parametrize("stack", [("logmel",), ("mel", "logmel", "mfcc")])
def test_features_are_unchanged_bit_for_bit_at_p_0(stack, clips):
    front = FeatureStack(FeaturesConfig(stack=stack, deltas=1), RATE)
    plain, frames = front(*batched(clips))
    warped, warped_frames = front(*batched(clips), drawn(MelWarp(p=0.0), len(clips)))
    assert torch.equal(plain, warped) and torch.equal(frames, warped_frames)


def test_an_unchanged_clip_in_a_batch_of_warped_clips_keeps_its_bits(clips):
    front = FeatureStack(FeaturesConfig(), RATE)
    plain, frames = front(*batched(clips))
    warped, warped_frames = front(*batched(clips), warp_of([1.0, 0.8, 1.2, 1.0], [128, 106, 150, 128]))
    for i in (0, 3):
        assert warped_frames[i] == frames[i]
        assert torch.equal(plain[i, :, : frames[i]], warped[i, :, : frames[i]])
        assert not warped[i, :, frames[i] :].any()


def test_a_clip_is_warped_the_same_alone_and_in_a_padded_batch(clips):
    front = FeatureStack(FeaturesConfig(stack=("logmel", "mfcc"), deltas=2), RATE)
    warp = warp_of([1.2, 0.8, 1.0, 0.93], [106, 156, 140, 105])
    together, frames = front(*batched(clips, extra=5000), warp)
    for i, wave in enumerate(clips):
        alone, count = front(*batched([wave]), Warp(warp.rate[i : i + 1], warp.pitch_steps[i : i + 1], 0.8))
        assert count[0] == frames[i]
        torch.testing.assert_close(together[i, :, :count], alone[0, :, :count], rtol=1e-5, atol=2e-4)
        assert not alone[0, :, count:].any()


@pytest.mark.parametrize("samples", [1, 300, 5000])
def test_silent_and_tiny_clips_stay_finite_and_keep_a_frame(samples):
    front = FeatureStack(FeaturesConfig(stack=("logmel", "mfcc"), deltas=1), RATE)
    features, frames = front(torch.zeros(2, samples), torch.tensor([samples, 1]), warp_of([2.0, 0.5], [105, 156]))
    assert features.isfinite().all() and (frames >= 1).all() and (frames <= features.shape[-1]).all()


def test_a_tone_moves_to_the_mel_band_of_its_new_frequency():
    front = FeatureStack(FeaturesConfig(n_mels=40, top_db=None), RATE)
    for hertz in (400.0, 1500.0, 3000.0):
        for steps in (105, 114, 144, 156):
            warped, _ = front(*batched([tone(hertz)]), warp_of([1.0], [steps], 1.0))
            real, _ = front(*batched([tone(hertz * steps / 128)]))
            band = int(real[0, :, 30].argmax())
            assert int(warped[0, :, 30].argmax()) == band
            assert (warped - real)[0, band, 4:-4].abs().max() < 1.0


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_log_mels_of_a_stretched_chirp_are_those_of_a_chirp_at_that_rate(rate):
    """A stretched chirp is known: it passes through the same frequencies at another rate. Agreement within 0.5 dB."""

    def chirp(seconds: float) -> np.ndarray:
        hertz = np.geomspace(200, 3000, round(seconds * RATE))
        return (0.5 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)).astype(np.float32)

    front = FeatureStack(FeaturesConfig(n_fft=512, hop_length=128, top_db=40.0), RATE)
    warped, frames = front(*batched([chirp(2.0)]), warp_of([rate], [128], 0.8))
    real, count = front(*batched([chirp(2.0 / rate)]))
    assert abs(int(frames) - int(count)) <= 1
    inner = slice(4, int(min(frames[0], count[0])) - 4)
    difference = (warped[0, :, inner] - real[0, :, inner]).abs()
    assert difference.mean() < 0.5


def test_the_number_of_frames_is_that_of_the_positions_read():
    frames = torch.tensor([1, 2, 100, 101, 188])
    for rate in (0.5, 0.75, 1.0, 1.25, 2.0):  # exact in binary
        expected = [sum(j * rate <= count - 1 for j in range(500)) for count in frames.tolist()]
        assert stretched_count(frames, torch.full((5,), rate, dtype=torch.float64)).tolist() == expected


def test_frames_are_interpolated_linearly():
    x = torch.arange(6.0)[None, :, None].expand(1, 6, 2)
    warp = warp_of([0.75], [128], 0.75)
    stretched = stretch_frames(x, torch.tensor([6]), warp)
    torch.testing.assert_close(stretched[0, :, 0], (torch.arange(7) * 0.75).clamp(max=5.0))


def test_warps_stay_in_their_ranges_and_have_their_probability():
    warp = drawn(MelWarp(p=0.5, rate=(0.9, 1.2), semitones=(-2.0, 3.0)), 4000)
    changed = warp.rate != 1
    assert 0.46 < changed.float().mean() < 0.54
    assert warp.rate[changed].min() >= 0.9 and warp.rate[changed].max() < 1.2 and warp.slowest == 0.9
    assert warp.pitch_steps.min() == 114 and warp.pitch_steps.max() == 152
    assert (warp.pitch_steps[~changed] == 128).all()
    assert abs(warp.rate[changed].mean() - 1.05) < 0.01


def test_the_warp_of_a_clip_does_not_depend_on_its_batch():
    transform, clips = MelWarp(p=0.7), torch.arange(50)
    whole = transform.draw(torch.full((50,), 16000), ClipRandom(clips, 3), RATE)
    part = transform.draw(torch.full((20,), 16000), ClipRandom(clips[30:], 3), RATE)
    assert torch.equal(whole.rate[30:], part.rate) and torch.equal(whole.pitch_steps[30:], part.pitch_steps)


def test_features_that_cannot_be_warped_are_named(clips):
    several = FeaturesConfig(stack=("mfcc", "rms", "pitch"))
    learned = FeaturesConfig(front_end="nnaudio", trainable=True)
    for config, name in ((several, "rms, pitch"), (learned, "trainable")):
        with pytest.raises(ConfigError, match=name):
            FeatureStack(config, RATE)(*batched(clips), warp_of([1.0] * 4, [128] * 4))


@pytest.mark.speech
def test_the_pitch_shift_of_real_speech_is_close_to_one_by_resampling(speech_root):
    """Speech resampled by r is r times higher and shorter. After a stretch by 1 / r only the shift is left."""
    files = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[:6]
    config = FeaturesConfig(top_db=60.0, hop_length=64)
    front = FeatureStack(config, RATE)
    for path, steps in zip(files, (114, 120, 124, 132, 136, 144), strict=True):
        wave = librosa.load(path, sr=RATE)[0]
        ratio = steps / 128
        played = librosa.resample(wave, orig_sr=steps * 125, target_sr=16000).astype(np.float32)
        real, count = front(*batched([played]), warp_of([1 / ratio], [128], 0.5))
        warped, frames = front(*batched([wave]), warp_of([1.0], [steps], 1.0))
        size = int(min(count[0], frames[0])) - 4
        low = int(64 * 0.85)  # a downward shift leaves the bands above empty
        difference = (real[0, :low, :size] - warped[0, :low, :size]).abs()
        assert difference.mean() < 2.0, (steps, float(difference.mean()))
