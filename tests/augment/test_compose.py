"""`Compose` in anyone's own loop, and transforms that users register."""

import pickle
from typing import Literal

import numpy as np
import pytest
import soundfile
import torch

from serx.augment import (
    AugmentConfig,
    BackgroundNoise,
    Compose,
    Crop,
    FrequencyMask,
    Gain,
    MelWarp,
    Noise,
    PitchShift,
    Reverb,
    TimeMask,
    WaveformTransform,
    register_transform,
)
from serx.augment.compose import augment
from serx.augment.transform import registered_transforms
from serx.base_config import BaseConfig
from serx.config.loader import load_config
from serx.errors import DataError
from tests.conftest import RATE, batched

TRANSFORMS = [PitchShift(p=0.4, semitones=(-2, 2)), Noise(p=0.5), Reverb(p=0.5)]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_compose_gives_what_the_trainer_gives_for_the_same_seed_epoch_and_clips(clips):
    x, lengths = batched(clips)
    ids = torch.tensor([40, 7, 23, 99])
    expected, sizes = augment(TRANSFORMS, x, lengths, ids, RATE, seed=5, epoch=3)
    got, got_sizes = Compose(TRANSFORMS, RATE)(x, lengths, clips=[40, 7, 23, 99], seed=5, epoch=3)
    assert torch.equal(got, expected) and torch.equal(got_sizes, sizes)


def test_a_generator_decides_and_the_global_one_is_the_default(clips):
    x, lengths = batched(clips)
    compose = Compose(TRANSFORMS, RATE)
    first, second, other = (compose(x, lengths, generator=seeded(seed))[0] for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert torch.equal(compose(x, lengths)[0], first)
        assert not torch.equal(compose(x, lengths)[0], first)


def test_each_call_and_each_clip_draws_anew():
    compose, generator = Compose([Gain(p=1.0)]), seeded(0)
    levels = torch.stack([compose(torch.ones(100, 8), generator=generator)[0][:, 0] for _ in range(2)])
    assert len(levels.unique()) == 200


def test_the_global_generators_are_left_alone_where_clips_or_a_generator_decide(clips):
    x, lengths = batched(clips)
    before = torch.get_rng_state()
    Compose(TRANSFORMS, RATE)(x, lengths, generator=seeded(0))
    Compose(TRANSFORMS, RATE)(x, lengths, clips=range(len(x)))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_lengths_the_whole_width_is_the_clip():
    waveform, lengths = Compose([Crop(seconds=0.25)])(torch.ones(2, 8000))
    assert waveform.shape == (2, 4000) and lengths.tolist() == [4000, 4000]


def test_spectrograms_are_masked_within_their_frames():
    x, frames = torch.ones(3, 16, 50), torch.tensor([50, 30, 5])
    x = x * (torch.arange(50) < frames[:, None])[:, None]
    y, new = Compose([TimeMask(), FrequencyMask()])(x, frames, generator=seeded(0))
    assert torch.equal(new, frames) and (y <= x).all() and (y != x).any()


def test_recordings_come_from_memory_or_from_the_folder(tmp_path, clips):
    hum = (0.5 * np.sin(np.arange(24_000) * 0.05)).astype(np.float32)
    soundfile.write(tmp_path / "hum.wav", hum, RATE, subtype="FLOAT")
    x, lengths = batched(clips)
    noise = BackgroundNoise(p=1.0, folder=tmp_path)
    read, given = Compose([noise], RATE), Compose([noise], RATE, {str(tmp_path): [torch.from_numpy(hum)]})
    both = [compose(x, lengths, clips=range(4))[0] for compose in (read, given)]
    torch.testing.assert_close(*both, rtol=1e-4, atol=1e-4)
    with pytest.raises(DataError, match="missing"):
        Compose([BackgroundNoise(folder=tmp_path / "missing")])


def test_a_compose_can_be_pickled_for_the_workers_of_a_data_loader(clips):
    x, lengths = batched(clips)
    compose = Compose([*TRANSFORMS, BackgroundNoise(folder="n")], RATE, {"n": [torch.randn(5000)]})
    copy = pickle.loads(pickle.dumps(compose))
    assert torch.equal(copy(x, lengths, clips=range(4))[0], compose(x, lengths, clips=range(4))[0])
    assert "background_noise" in repr(copy)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Compose([Noise(), TimeMask()]), "make one Compose of each"),
        (lambda: Compose([MelWarp()]), "is no transform"),
        (lambda: Compose([Noise()])(torch.zeros(8000)), r"waveforms \(B, T\) of torch.float32"),
        (lambda: Compose([Noise()])(torch.zeros(1, 8000, dtype=torch.int16)), "torch.int16"),
        (lambda: Compose([TimeMask()])(torch.zeros(2, 50)), r"spectrograms \(B, F, N\)"),
        (lambda: Compose([Noise()])(torch.zeros(2, 80), torch.tensor([80])), "lengths: got shape"),
        (lambda: Compose([Noise()])(torch.zeros(2, 80), clips=[1]), "clips: got shape"),
        (lambda: Compose([Noise()])(torch.zeros(2, 80), clips=[0.5, 1.0]), "clips: got shape"),
        (lambda: Compose([Noise()])(torch.zeros(1, 8), clips=[0], generator=seeded(0)), "both generator and clips"),
        (lambda: BackgroundNoise(folder="n").apply(torch.zeros(1, 8), torch.tensor([8]), None), "use it in Compose"),
        (lambda: Compose([BackgroundNoise(folder="n")], recordings={"n": []}), "at least one waveform"),
        (lambda: Compose([BackgroundNoise(folder="n")], recordings={"n": [torch.zeros(2, 8)]}), "shape .2, 8."),
    ],
)  # fmt: skip
def test_a_wrong_use_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_input_is_left_unchanged(clips):
    x, lengths = batched(clips)
    before = x.clone()
    Compose(TRANSFORMS, RATE)(x, lengths)
    assert torch.equal(x, before)


@register_transform
class Reverse(WaveformTransform):
    """Plays a clip backwards."""

    kind: Literal["reverse"] = "reverse"
    p: float = 0.5

    def draw(self, lengths, random, rate):
        return random.chance(self.p)

    def apply(self, x, lengths, params):
        position = torch.arange(x.shape[1], device=x.device)
        index = (lengths[:, None] - 1 - position).clamp(min=0)
        backwards = x.gather(1, index) * (position < lengths[:, None])
        return torch.where(params[:, None], backwards, x), lengths


def test_a_registered_transform_is_configured_like_a_shipped_one(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "data: {root: x}\nmodel: {kind: mlp}\naugment:\n  waveform: [{kind: reverse, p: 0.25}, {kind: noise}]\n"
    )
    config = load_config(path)
    assert config.augment.waveform[0] == Reverse(p=0.25)
    assert AugmentConfig.model_validate(config.augment.model_dump(mode="json")) == config.augment
    assert load_config(path, "augment.waveform.reverse.p=1").augment.waveform[0].p == 1
    y, _ = Compose([Reverse(p=1.0)])(torch.tensor([[1.0, 2, 3, 0]]), torch.tensor([3]))
    assert y.tolist() == [[3, 2, 1, 0]]


def test_a_class_that_cannot_be_registered_is_refused():
    class Loose(BaseConfig):
        kind: Literal["loose"] = "loose"

    class Nameless(WaveformTransform):
        pass

    class Thief(Reverse):
        kind: Literal["noise"] = "noise"

    for cls, message in ((Loose, "must derive from"), (Nameless, "has no default"), (Thief, "another kind")):
        with pytest.raises(ValueError, match=message):
            register_transform(cls)
    assert registered_transforms(WaveformTransform)["noise"] is Noise
