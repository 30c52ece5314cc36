"""Level, crop, shift and masks measured as signals; p = 0 and independence of the batch on speech-like clips."""

import pytest
import torch

from serx.augment import (
    BackgroundNoise,
    BandPass,
    Clipping,
    Codec,
    Crop,
    Equalizer,
    FrequencyMask,
    Gain,
    HighPass,
    ImpulseResponse,
    LowPass,
    Noise,
    PitchShift,
    PitchTempo,
    PolarityInversion,
    Reverb,
    Shift,
    Speed,
    Telephone,
    TimeMask,
    TimeStretch,
    load_recordings,
)
from serx.augment.compose import augment
from serx.augment.recordings import TransformWithRecordings
from serx.seeding import ClipRandom, derive
from tests.conftest import RATE, batched


def recordings(folder: str) -> list[torch.Tensor]:
    """Three recordings of unequal lengths, shorter and longer than the clips."""
    random = torch.Generator().manual_seed(0)
    decay = 0.002 if folder == "rooms" else 0.0
    return [
        torch.randn(size, generator=random) * torch.exp(-decay * torch.arange(size)) for size in (300, 5000, 40_000)
    ]


WAVEFORM = [
    Noise(p=1.0, snr_db=(5.0, 30.0)),
    Gain(p=1.0, gain_db=(-12.0, 6.0)),
    Crop(seconds=0.3),
    Speed(p=1.0, ratio=(0.85, 1.2)),
    PitchShift(p=1.0),
    TimeStretch(p=1.0),
    PitchTempo(p=1.0),
    Shift(p=1.0),
    PolarityInversion(p=1.0),
    Clipping(p=1.0),
    Clipping(p=1.0, shape="soft"),
    Noise(p=1.0, color="pink"),
    LowPass(p=1.0),
    HighPass(p=1.0),
    BandPass(p=1.0),
    Equalizer(p=1.0),
    Telephone(p=1.0),
    Codec(p=1.0),
    Reverb(p=1.0),
    *load_recordings(
        [BackgroundNoise(p=1.0, folder="noises"), ImpulseResponse(p=1.0, folder="rooms")],
        recordings,
        torch.device("cpu"),
    ),
]
SPECTROGRAM = [TimeMask(count=2, width=6), FrequencyMask(count=2, width=4)]


def random_for(count: int, seed: int = 0) -> ClipRandom:
    return ClipRandom(torch.arange(count), derive(seed, "test"))


def spectrograms() -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.tensor([30, 12, 3, 50])
    features = torch.rand(4, 12, 50, generator=torch.Generator().manual_seed(0)) + 1
    return features * (torch.arange(50) < frames[:, None])[:, None], frames


def switched_off(transform):
    """The same transform with p = 0."""
    if isinstance(transform, TransformWithRecordings):
        return TransformWithRecordings(switched_off(transform.transform), transform.recordings)
    return transform.model_copy(update={"p": 0.0})


@pytest.mark.parametrize("transform", [t for t in WAVEFORM if t.kind != "crop"], ids=lambda t: t.kind)
def test_a_waveform_is_unchanged_bit_for_bit_at_p_0(transform, clips):
    off = switched_off(transform)
    x, lengths = batched(clips)
    y, new = off.apply(x, lengths, off.draw(lengths, random_for(len(x)), RATE))
    assert torch.equal(y[:, : x.shape[1]], x)
    assert not y[:, x.shape[1] :].any()
    assert torch.equal(new, lengths)


@pytest.mark.parametrize("transform", SPECTROGRAM, ids=lambda t: t.kind)
def test_a_spectrogram_is_unchanged_bit_for_bit_at_p_0(transform):
    x, frames = spectrograms()
    off = switched_off(transform)
    assert torch.equal(off.apply(x, frames, off.draw(frames, random_for(4), 62.5))[0], x)


@pytest.mark.parametrize("chain", [WAVEFORM, *[[t] for t in WAVEFORM]], ids=lambda c: "+".join(t.kind for t in c))
def test_a_clip_is_augmented_the_same_alone_in_a_batch_and_padded(chain, clips):
    x, lengths = batched(clips, extra=4321)
    ids = torch.tensor([40, 7, 23, 99])
    together, new = augment(tuple(chain), x, lengths, ids, RATE, seed=1, epoch=5)
    for i, wave in enumerate(clips):
        alone, count = augment(tuple(chain), *batched([wave]), ids[i : i + 1], RATE, seed=1, epoch=5)
        assert int(count[0]) == int(new[i])
        size = int(count[0])
        torch.testing.assert_close(alone[0, :size], together[i, :size], rtol=1e-5, atol=1e-6)
        assert not together[i, size:].any()


def test_augmentation_depends_on_seed_and_epoch(clips):
    x, lengths = batched(clips)
    ids = torch.arange(len(clips))
    results = [
        augment((WAVEFORM[0],), x, lengths, ids, RATE, seed=s, epoch=e)[0] for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert torch.equal(results[0], results[3])
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_silent_clip_stays_silent():
    x, lengths = torch.zeros(2, 4000), torch.tensor([4000, 10])
    for transform in WAVEFORM:
        y, _ = transform.apply(x, lengths, transform.draw(lengths, random_for(2), RATE))
        assert not y.any()


def test_gain_is_in_decibels(clips):
    x, lengths = batched(clips)
    gain = Gain(p=1.0, gain_db=(-6.0206, -6.0206))
    y, _ = gain.apply(x, lengths, gain.draw(lengths, random_for(len(x)), RATE))
    torch.testing.assert_close(y, x / 2, rtol=1e-5, atol=0)


def test_polarity_inversion_changes_the_sign(clips):
    x, lengths = batched(clips)
    y, _ = PolarityInversion().apply(x, lengths, torch.tensor([True, False] * 2))
    assert torch.equal(y, torch.stack([-x[0], x[1], -x[2], x[3]]))


def test_clipping_limits_at_decibels_below_each_clips_own_peak(clips):
    x, lengths = batched(clips)
    clipping = Clipping(p=1.0, limit_db=(-6.0206, -6.0206))
    params = clipping.draw(lengths, random_for(len(x)), RATE)
    y, _ = clipping.apply(x, lengths, params)
    limit = x.abs().amax(1, keepdim=True) / 2
    torch.testing.assert_close(y.abs().amax(1, keepdim=True), limit, rtol=1e-5, atol=0)
    below = x.abs() < 0.999 * limit
    assert torch.equal(y[below], x[below])
    soft, _ = Clipping(p=1.0, shape="soft").apply(x, lengths, params)
    torch.testing.assert_close(soft, limit * torch.tanh(x / limit), rtol=1e-4, atol=1e-6)


def test_a_crop_is_a_window_of_the_clip_and_keeps_short_clips_whole(clips):
    x, lengths = batched(clips)
    crop = Crop(seconds=0.5)
    params = crop.draw(lengths, random_for(len(x), 3), RATE)
    y, new = crop.apply(x, lengths, params)
    assert y.shape[1] == 8000
    for i, length in enumerate(lengths.tolist()):
        start = int(params.start[i])
        assert 0 <= start <= max(0, length - 8000)
        assert int(new[i]) == min(length, 8000)
        assert torch.equal(y[i, : int(new[i])], x[i, start : start + int(new[i])])
        assert not y[i, int(new[i]) :].any()


def test_a_shift_moves_samples_later_or_earlier_and_fills_with_zeros():
    x, lengths = torch.arange(1.0, 11).repeat(2, 1), torch.tensor([10, 6])
    x = x * (torch.arange(10) < lengths[:, None])
    y, new = Shift(p=1.0).apply(x, lengths, torch.tensor([3, -2]))
    assert y[0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert y[1].tolist() == [3, 4, 5, 6, 0, 0, 0, 0, 0, 0]
    assert torch.equal(new, lengths)


def test_a_shift_is_drawn_in_seconds_and_is_at_most_half_the_clip():
    lengths = torch.cat([torch.full((2000,), 16_000), torch.full((2000,), 1000)])
    offset = Shift(p=1.0, seconds=(-0.1, 0.2)).draw(lengths, random_for(4000), RATE)
    assert -1600 <= offset[:2000].min() < -1500 and 3100 < offset[:2000].max() <= 3200
    assert offset[2000:].min() == -500 and offset[2000:].max() == 500


def test_masks_zero_whole_frames_and_rows_and_nothing_else():
    x, frames = spectrograms()
    for transform, axis in ((SPECTROGRAM[0], 0), (SPECTROGRAM[1], 1)):
        params = transform.draw(frames, random_for(4, 5), 62.5)
        y, _ = transform.apply(x, frames, params)
        changed = y != x
        assert changed.any()
        assert not y[changed].any()
        for clip, length in zip(changed, frames.tolist(), strict=True):
            masked = clip[:, :length].any(dim=axis)
            assert torch.equal(clip[:, :length].all(dim=axis), masked)
            assert not clip[:, length:].any()


def test_time_masks_have_all_widths_and_positions():
    frames = torch.full((4000,), 40)
    params = TimeMask(count=1, width=8, max_fraction=1.0).draw(frames, random_for(4000), 62.5)
    start, width = params.start[0], params.width[0]
    assert width.unique().tolist() == list(range(9))
    assert start.min() == 0
    assert (start + width).max() == 40


def test_a_time_mask_is_at_most_its_fraction_of_the_clip():
    frames = torch.tensor([40, 10]).repeat(2000)
    (width,) = TimeMask(count=1, width=8, max_fraction=0.1).draw(frames, random_for(4000), 62.5).width
    assert (width[::2].max(), width[1::2].max()) == (4, 1)


def test_frequency_masks_have_all_widths_and_cover_all_rows():
    x, frames = torch.ones(4000, 20, 3), torch.full((4000,), 3)
    mask = FrequencyMask(count=1, width=6)
    masked = mask.apply(x, frames, mask.draw(frames, random_for(4000), 62.5))[0][:, :, 0] == 0
    assert masked.sum(1).unique().tolist() == list(range(7))
    assert masked.any(0).all()
    assert 0.11 < (masked.sum(1) == 6).double().mean() < 0.17  # one in seven: no mask is cut off at the last row
    wide = FrequencyMask(count=1, width=50)
    assert (wide.apply(x, frames, wide.draw(frames, random_for(4000), 62.5))[0] == 0).all(1).any()
