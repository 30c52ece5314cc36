"""Augmentation measured as a signal, and the same for a clip wherever it stands."""

import numpy as np
import pytest
import torch

from serx.seeding import ClipRandom, derive
from serx.transforms.augment import Crop, FrequencyMask, Gain, Noise, Speed, TimeMask, augment
from tests.conftest import RATE, batched

WAVEFORM = [
    Noise(p=1.0, snr_db=(5.0, 30.0)),
    Gain(p=1.0, gain_db=(-12.0, 6.0)),
    Crop(seconds=0.3),
    Speed(p=1.0, ratio=(0.85, 1.2)),
]
SPECTROGRAM = [TimeMask(count=2, width=6), FrequencyMask(count=2, width=4, rows=12)]


def random_for(count: int, seed: int = 0) -> ClipRandom:
    return ClipRandom(torch.arange(count), derive(seed, "test"))


def some_spectrograms() -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.tensor([30, 12, 3, 50])
    features = torch.rand(4, 12, 50, generator=torch.Generator().manual_seed(0)) + 1
    return features * (torch.arange(50) < frames[:, None])[:, None], frames


@pytest.mark.parametrize("snr_db", [0.0, 12.5, 40.0])
def test_noise_has_the_signal_to_noise_ratio_asked_for(snr_db, clips):
    x, lengths = batched(clips, extra=3000)
    noise = Noise(p=1.0, snr_db=(snr_db, snr_db))
    noisy, _ = noise.apply(x, lengths, noise.draw(lengths, random_for(len(x)), RATE))
    for clean, dirty, length in zip(x, noisy, lengths, strict=True):
        signal, added = clean[:length].double(), (dirty - clean)[:length].double()
        measured = 10 * torch.log10(signal.square().sum() / added.square().sum())
        assert abs(float(measured) - snr_db) < 0.01
        assert not dirty[length:].any()


def test_noise_is_white_and_differs_between_clips(clips):
    x, lengths = batched([clips[1], clips[1]])
    noise = Noise(p=1.0, snr_db=(0.0, 0.0))
    added = noise.apply(x, lengths, noise.draw(lengths, random_for(2), RATE))[0] - x
    assert abs(np.corrcoef(added.numpy())[0, 1]) < 0.03
    power = np.abs(np.fft.rfft(added[0].numpy())) ** 2
    low, high = power[100:4000].mean(), power[4000:7900].mean()
    assert abs(10 * np.log10(low / high)) < 0.5


def test_a_silent_clip_stays_silent_and_finite():
    x, lengths = torch.zeros(2, 4000), torch.tensor([4000, 10])
    for transform in WAVEFORM:
        y, _ = transform.apply(x, lengths, transform.draw(lengths, random_for(2), RATE))
        assert not y.any()


def test_gain_is_in_decibels(clips):
    x, lengths = batched(clips)
    gain = Gain(p=1.0, gain_db=(-6.0206, -6.0206))
    y, _ = gain.apply(x, lengths, gain.draw(lengths, random_for(len(x)), RATE))
    torch.testing.assert_close(y, x / 2, rtol=1e-5, atol=0)


def test_a_crop_is_a_piece_of_the_clip_and_keeps_short_ones_whole(clips):
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


def test_masks_set_whole_frames_and_rows_to_zero_and_nothing_else():
    x, frames = some_spectrograms()
    for transform, axis in ((SPECTROGRAM[0], 0), (SPECTROGRAM[1], 1)):
        params = transform.draw(frames, random_for(4, 5), 62.5)
        y, _ = transform.apply(x, frames, params)
        changed = y != x
        assert changed.any()
        assert not y[changed].any()
        for clip, length in zip(changed, frames.tolist(), strict=True):
            hit = clip[:, :length].any(dim=axis)
            assert torch.equal(clip[:, :length].all(dim=axis), hit)  # a frame or row is masked whole
            assert not clip[:, length:].any()


def test_mask_widths_and_places_cover_their_ranges():
    frames = torch.full((4000,), 40)
    params = TimeMask(count=1, width=8, share=1.0).draw(frames, random_for(4000), 62.5)
    start, width = params.start[0], params.width[0]
    assert width.unique().tolist() == list(range(9))
    assert start.min() == 0
    assert (start + width).max() == 40


@pytest.mark.parametrize("transform", WAVEFORM[:2] + WAVEFORM[3:], ids=lambda t: t.kind)
def test_probability_zero_gives_a_waveform_back_bit_for_bit(transform, clips):
    off = transform.model_copy(update={"p": 0.0})
    x, lengths = batched(clips)
    y, new = off.apply(x, lengths, off.draw(lengths, random_for(len(x)), RATE))
    assert torch.equal(y[:, : x.shape[1]], x)
    assert not y[:, x.shape[1] :].any()
    assert torch.equal(new, lengths)


@pytest.mark.parametrize("transform", SPECTROGRAM, ids=lambda t: t.kind)
def test_probability_zero_gives_a_spectrogram_back_bit_for_bit(transform):
    x, frames = some_spectrograms()
    off = transform.model_copy(update={"p": 0.0})
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


def test_epoch_and_seed_change_the_augmentation(clips):
    x, lengths = batched(clips)
    ids = torch.arange(len(clips))
    results = [
        augment((WAVEFORM[0],), x, lengths, ids, RATE, seed=s, epoch=e)[0] for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert torch.equal(results[0], results[3])
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
