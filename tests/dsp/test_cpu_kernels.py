"""What a CPU computes by rows, by NumPy or by quick checks is what the general operations of torch give."""

import pytest
import torch

import serx.augment as A
from serx import seeding
from serx.augment import compose as compose_module
from serx.augment import crop, level, masks, noise
from serx.augment.compose import augment
from serx.dsp import batching, descriptors, fft_filter
from serx.seeding import ClipRandom, derive

RATE = 16_000
LENGTHS = torch.tensor([4000, 3999, 1, 2500, 4000])
CLIPS = torch.tensor([7, 0, 3, 1 << 40, 12])


@pytest.fixture
def general(monkeypatch):
    """Call it, and every tensor is treated as one that NumPy cannot read."""

    def switch() -> None:
        for module in (seeding, crop, level, masks, noise, batching, descriptors, fft_filter):
            monkeypatch.setattr(module, "is_plain_on_cpu", lambda x: False)

    return switch


def speech_like() -> torch.Tensor:
    noise = torch.randn(5, 4000, generator=torch.Generator().manual_seed(0)) * 0.1
    return noise * batching.valid_mask(LENGTHS, 4000)


@pytest.mark.parametrize("count", [0, 1, seeding.FEW_CLIPS, 3000])
def test_random_numbers_by_python_and_numpy_are_those_by_torch(general, count):
    def drawn():
        clips = torch.cat([torch.tensor([-1, (1 << 63) - 1]), torch.arange(3000)])[:count]
        random = ClipRandom(clips, derive(3, "test"))
        counts = torch.arange(len(clips)) % 7
        return [
            random.bits(),
            random.uniform(),
            random.uniform(-12.3, 6.7),
            random.uniform(counts.float(), 9.0),
            random.integers(1000),
            random.integers(counts),
            *(random.chance(p) for p in (0.0, 0.3, 1 / 3, 1.0)),
        ]

    by_numpy = drawn()
    general()
    for ours, reference in zip(by_numpy, drawn(), strict=True):
        assert ours.dtype == reference.dtype
        assert torch.equal(ours, reference)


@pytest.mark.parametrize(
    "transform",
    [
        A.Gain(p=0.5), A.PolarityInversion(p=0.5), A.Clipping(p=0.5), A.Clipping(p=1.0, shape="soft"),
        A.Crop(seconds=0.1), A.Shift(p=0.8), A.Shift(p=1.0, seconds=(-1.0, 1.0)),
    ],
    ids=repr,
)  # fmt: skip
def test_waveforms_changed_by_rows_are_the_same_numbers(general, transform):
    x = speech_like()
    before = x.clone()
    by_rows = A.Compose([transform])(x, LENGTHS, clips=CLIPS)
    assert torch.equal(x, before)
    general()
    for ours, reference in zip(by_rows, A.Compose([transform])(x, LENGTHS, clips=CLIPS), strict=True):
        assert torch.equal(ours, reference)


@pytest.mark.parametrize("transform", [A.Noise(p=0.5), A.Noise(p=1.0, color="pink"),
    A.BackgroundNoise(p=0.7, folder="noises")], ids=repr)  # fmt: skip
@pytest.mark.parametrize("in_place", [False, True])
def test_noise_added_clip_by_clip_is_the_same_numbers(general, transform, in_place, monkeypatch):
    compose = A.Compose([transform], recordings={"noises": [torch.randn(9000), torch.randn(700)]})
    x = -speech_like()  # with negative zeros beyond the lengths
    x[2] = 0  # a silent clip stays silent
    before = x.clone()
    by_rows = [augment(compose.transforms, x, LENGTHS, CLIPS, RATE, 0, 3, in_place)[0]]
    assert in_place or torch.equal(x, before)
    monkeypatch.setattr(compose_module, "CPU_NUMBERS", 2 * 4000)  # in chunks
    by_rows.append(augment(compose.transforms, before.clone(), LENGTHS, CLIPS, RATE, 0, 3, in_place)[0])
    general()
    reference = augment(compose.transforms, before, LENGTHS, CLIPS, RATE, 0, 3)[0]
    assert torch.equal(by_rows[1].view(torch.int32), reference.view(torch.int32))
    torch.testing.assert_close(by_rows[0], reference, rtol=0, atol=1e-6)  # a power has other bits in other batches


@pytest.mark.parametrize("transform", [A.TimeMask(), A.TimeMask(p=0.5, count=3), A.FrequencyMask(width=40)], ids=repr)
def test_masks_written_by_rows_are_the_same_numbers(general, transform):
    x, frames = torch.rand(5, 60, 16).transpose(1, 2) + 1, torch.tensor([60, 1, 33, 60, 12])
    by_rows, _ = A.Compose([transform])(x, frames, clips=CLIPS)
    assert (x >= 1).all()
    assert by_rows.is_contiguous()  # as with several chunks: a convolution's rounding depends on it
    general()
    assert torch.equal(by_rows, A.Compose([transform])(x, frames, clips=CLIPS)[0])


@pytest.mark.parametrize(
    "transform", [A.LowPass(p=0.5), A.HighPass(p=1.0, order=3), A.BandPass(p=0.5), A.Equalizer(p=0.5)], ids=repr
)
def test_only_the_chosen_clips_are_filtered_and_the_same_way(general, transform):
    x = speech_like()
    alone, _ = A.Compose([transform])(x[3:4], LENGTHS[3:4], clips=CLIPS[3:4])
    by_rows, _ = A.Compose([transform])(x, LENGTHS, clips=CLIPS)
    general()
    reference, _ = A.Compose([transform])(x, LENGTHS, clips=CLIPS)
    assert torch.allclose(by_rows, reference, atol=1e-6)
    assert torch.allclose(alone[0], reference[3], atol=1e-6)
    untouched = (reference == x).all(1)
    assert torch.equal(by_rows[untouched], x[untouched])


def test_responses_of_filters_follow_their_formulas():
    frequency, cutoff = torch.fft.rfftfreq(3000), torch.tensor([0.003, 0.1, 0.5])
    exact, edge = frequency.double(), cutoff.double()[:, None]
    for order in range(1, 9):
        low = (1 + (exact / edge) ** (2 * order)).rsqrt().float()
        high = (1 + (edge / exact) ** (2 * order)).rsqrt().float()
        torch.testing.assert_close(fft_filter.low_pass_response(frequency, cutoff, order), low, rtol=1e-5, atol=1e-15)
        torch.testing.assert_close(fft_filter.high_pass_response(frequency, cutoff, order), high, rtol=1e-5, atol=1e-15)


def test_the_response_of_many_strong_peaks_stays_finite_and_follows_its_formula():
    frequency = torch.fft.rfftfreq(3000)
    center, gain_db, q = torch.full((2, 10), 0.05), torch.full((2, 10), 36.0), torch.full((2, 10), 100.0)
    gain_db[1] = -3.0
    s = 1j * frequency.double() / 0.05
    for row, gain in zip(
        fft_filter.peak_response(frequency, center, gain_db, q), (10 ** (36 / 40), 10 ** (-3 / 40)), strict=True
    ):
        expected = ((s**2 + s * gain / 100 + 1).abs() / (s**2 + s / (gain * 100) + 1).abs()) ** 10
        torch.testing.assert_close(row, expected.float(), rtol=2e-2, atol=0)  # next to the center 1 - f^2 cancels


def test_contrast_by_sorting_is_that_by_selecting():
    magnitude, valid = torch.rand(2, 9, 513), torch.ones(2, 9, dtype=torch.bool)
    valid[1, 5:] = False
    sorted_bands = descriptors.spectral_contrast(magnitude, valid, RATE, bands=6)
    selected = descriptors.spectral_contrast(magnitude.clone().requires_grad_(), valid, RATE, bands=6)
    torch.testing.assert_close(sorted_bands, selected.detach(), rtol=0, atol=1e-5)


def batch_of(transform):
    if isinstance(transform, A.TimeMask | A.FrequencyMask):
        return torch.rand(5, 24, 60) + 1, torch.tensor([60, 1, 33, 60, 12])
    return speech_like(), LENGTHS


IN_PLACE = [
    A.Gain(p=0.5), A.PolarityInversion(p=0.5), A.Clipping(p=0.5), A.Clipping(shape="soft"), A.Shift(p=0.8),
    A.Shift(p=1.0, seconds=(-1.0, 1.0)), A.LowPass(p=0.5), A.Equalizer(p=0.5), A.TimeMask(), A.FrequencyMask(width=20),
    A.Noise(p=0.5), A.Crop(seconds=0.1),
]  # fmt: skip


@pytest.mark.parametrize("transform", IN_PLACE, ids=repr)
def test_a_batch_that_may_be_overwritten_gets_the_same_numbers(transform):
    x, counts = batch_of(transform)
    before = x.clone()
    apart, lengths = augment([transform], x, counts, CLIPS, RATE, 0, 0)
    owned, same = augment([transform], x.clone(), counts, CLIPS, RATE, 0, 0, in_place=True)
    assert torch.equal(owned, apart) and torch.equal(same, lengths) and torch.equal(x, before)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    "transform",
    [A.Gain(p=0.8), A.PolarityInversion(), A.PolarityInversion(p=1.0), A.Clipping(p=0.8), A.Shift(p=0.8)],
    ids=repr,
)
def test_a_clip_alone_has_every_bit_of_the_same_clip_in_a_batch(transform, in_place):
    x, count = torch.randn(70, 1000, generator=torch.Generator().manual_seed(2)), 70
    lengths, clips = torch.full((count,), 1000), torch.arange(count) * 31
    batch, _ = augment([transform], x.clone(), lengths, clips, RATE, 0, 0, in_place=in_place)
    for start, size in [*((i, 1) for i in range(0, count, 3)), (5, 4), (11, 20)]:
        part = slice(start, start + size)
        alone, _ = augment([transform], x[part].clone(), lengths[part], clips[part], RATE, 0, 0, in_place=in_place)
        assert torch.equal(alone, batch[part])


def test_a_batch_that_may_be_overwritten_is():
    x = speech_like()
    y, _ = augment([A.Gain(p=1.0), A.Shift(p=1.0), A.LowPass(p=1.0)], x, LENGTHS, CLIPS, RATE, 0, 0, in_place=True)
    assert y.data_ptr() == x.data_ptr()


def test_in_a_list_only_what_a_transform_made_is_overwritten():
    class Same(A.WaveformTransform):  # returns the memory of its input as another tensor
        kind: str = "same"

        def draw(self, lengths, random, rate):
            return None

        def apply(self, x, lengths, params):
            return torch.from_numpy(x.numpy()), lengths

    x = speech_like()
    for chain in ([Same(), A.PolarityInversion(p=1.0)], [A.PolarityInversion(p=1.0), A.Shift(p=1.0), A.Gain(p=1.0)]):
        y, _ = augment(chain, x, LENGTHS, CLIPS, RATE, 0, 0)
        assert torch.equal(x, speech_like()) and not torch.equal(x, y)


def test_rows_that_share_memory_are_not_overwritten():
    class Tone(A.WaveformTransform):  # one row for all clips
        kind: str = "tone"

        def draw(self, lengths, random, rate):
            return None

        def apply(self, x, lengths, params):
            return torch.ones(x.shape[1]).expand(x.shape), lengths

    x, gain = torch.zeros(3, 8), A.Gain(p=1.0, gain_db=(6, 6))
    y, _ = augment([Tone(), gain], x, torch.full((3,), 8), CLIPS[:3], RATE, 0, 0)
    assert torch.allclose(y, torch.full((3, 8), 10 ** (6 / 20)))


@pytest.mark.parametrize("size", [12, 40, 1024, 55_296])
def test_one_clip_is_filtered_as_by_the_real_transform(size):
    x, factor = torch.randn(1, size - 3), torch.rand(size // 2 + 1)
    spectrum = torch.fft.rfft(x.double(), n=size) * factor.double()
    expected = torch.fft.irfft(spectrum, n=size)[:, : size - 3]
    torch.testing.assert_close(fft_filter._filter_one(x, factor, size).double(), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("transforms", [[A.PolarityInversion(p=0.0)], [A.Noise(p=0.0)], []], ids=repr)
def test_the_result_never_shares_the_memory_of_the_input(transforms):
    x = speech_like()
    y, _ = A.Compose(transforms)(x)
    y += 1
    assert torch.equal(x, speech_like())
