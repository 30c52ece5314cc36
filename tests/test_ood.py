"""What a recording went through is told apart from who speaks; speakers who are left out set the limit."""

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt

from serx.dsp.channel import channel_feature_names, channel_features
from serx.errors import CheckpointError
from serx.ood import OodDetector, fit, fit_ood_detector, from_tensors
from tests.conftest import RATE, speechlike

K = len(channel_feature_names(RATE))


def bursts(seed: int, fade_seconds: float = 0.01, noise: float = 1e-4) -> np.ndarray:
    """White bursts of 150 ms that fade away, pauses between them."""
    random = np.random.default_rng(seed)
    time = np.arange(int(1.6 * RATE)) / RATE % 0.4
    swell = np.where(time < 0.15, 1.0, np.exp(-(time - 0.15) / fade_seconds))
    return (0.1 * swell * random.standard_normal(len(time)) + noise * random.standard_normal(len(time))).astype("f4")


def described(*clips: np.ndarray) -> np.ndarray:
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return channel_features(batch, lengths, RATE).numpy()


def test_a_clip_is_described_alike_whatever_stands_beside_it_and_however_loud_it_is():
    clips = [bursts(0), bursts(1)[:9000], speechlike(0.7, 150, 2)]
    together = described(*clips)
    assert together.shape == (3, K) and np.isfinite(together).all()
    for clip, row in zip(clips, together, strict=True):
        np.testing.assert_allclose(described(clip)[0], row, atol=1e-3)
        np.testing.assert_allclose(described(0.01 * clip)[0], row, atol=1e-3)


def test_bands_of_white_noise_are_as_loud_as_the_whole():
    random = np.random.default_rng(0)
    [row] = described(random.standard_normal(RATE * 20).astype("f4"))
    of = {kind: row[[name[0] == kind for name in channel_feature_names(RATE)]] for kind in ("pauses", "medians", "peaks")}
    assert np.abs(of["medians"][3:]).max() < 0.7  # wide bands; in narrow ones a chi-square's median is below its mean
    assert (of["pauses"] < of["medians"]).all() and (of["medians"] < of["peaks"]).all()


@pytest.mark.parametrize("seconds", [0.02, 0.05])
def test_fading_is_as_fast_as_the_sound_fades(seconds):
    [row] = described(bursts(0, seconds, noise=0.0))
    fading = row[[name[0] == "fading" for name in channel_feature_names(RATE)]]
    exact = 20 * np.log10(np.exp(-0.048 / seconds))
    np.testing.assert_allclose(fading, exact, rtol=0.25)


def test_a_lower_sample_rate_has_the_bands_it_can_have():
    assert max(high for _, _, high in channel_feature_names(8000)) == 4000
    assert channel_features(torch.randn(2, 8000), torch.tensor([8000, 5000]), 8000).shape == (2, len(channel_feature_names(8000)))


def test_digital_silence_within_a_clip_is_a_number():
    silent = bursts(0)
    silent[3000:9000] = 0
    assert np.isfinite(described(silent)).all()


def test_too_short_a_clip_tells_nothing_and_is_not_called_unlike():
    known = fit(described(*(bursts(n) for n in range(12))), [str(n % 4) for n in range(12)])
    waveform, lengths = torch.randn(2, 4000), torch.tensor([700, 4000])
    assert known.unlike(waveform, lengths, RATE)[0] is None


@pytest.fixture(scope="module")
def known() -> OodDetector:
    clips = [bursts(n, 0.01 + 0.002 * (n % 5)) for n in range(40)]
    found = fit(described(*clips), [str(n % 5) for n in range(40)])
    assert found is not None
    return found


def unlike(known: OodDetector, clip: np.ndarray) -> str | None:
    return known.unlike(torch.from_numpy(clip.astype("f4"))[None], torch.tensor([len(clip)]), RATE)[0]


def test_new_clips_of_the_same_kind_are_familiar(known):
    assert [unlike(known, 0.2 * bursts(100 + n, 0.011 + 0.001 * n)) for n in range(6)] == [None] * 6


def test_noise_a_room_and_a_telephone_are_told_by_what_they_do(known):
    noisy = unlike(known, bursts(200, 0.012, noise=0.03))
    assert noisy is not None and ("pauses" in noisy or "noise or a room?" in noisy) and "Hz" in noisy
    echoing = unlike(known, bursts(201, 0.2))
    assert echoing is not None and ("noise or a room?" in echoing or "pauses" in echoing)
    dull = unlike(known, sosfilt(butter(8, 2000, output="sos", fs=RATE), bursts(202, 0.012)))
    assert dull is not None and "softer at" in dull


def test_the_limit_is_what_speakers_left_out_keep_to_and_not_what_they_taught():
    random = np.random.default_rng(0)
    apart = np.repeat(random.normal(0, 20, (6, K)), 30, 0) + random.normal(0, 1, (180, K))
    people = [str(n // 30) for n in range(180)]
    found = fit(apart, people)
    assert found.limit > 2 * found.distances(apart).max()  # six voices lie far apart, each of them near to itself
    mixed = fit(apart, [str(n % 6) for n in range(180)])
    assert mixed.limit < 2 * mixed.distances(apart).max()


def test_two_speakers_are_too_few_to_leave_one_out():
    assert fit(described(*(bursts(n) for n in range(8))), ["a", "b"] * 4) is None


def test_of_a_large_corpus_a_part_is_described():
    class BatchSource:
        asked = 0

        def batch(self, clips):
            self.asked += len(clips)
            return torch.randn(len(clips), 3200), torch.full((len(clips),), 3200)

    source = BatchSource()
    assert fit_ood_detector(source.batch, np.arange(7000), [str(n % 9) for n in range(7000)], RATE) is not None
    assert source.asked == 3000


def test_what_a_checkpoint_keeps_comes_back_and_what_is_forged_is_refused(known):
    kept = known.tensors()
    back = from_tensors(kept, RATE)
    assert np.array_equal(back.covariance, known.covariance) and back.limit == known.limit
    assert from_tensors({}, RATE) is None
    for broken in (
        {name: tensor for name, tensor in kept.items() if name != "limit"},
        kept | {"mean": kept["mean"][:-1]},
        kept | {"mean": kept["mean"].float()},
        kept | {"covariance": -kept["covariance"]},
    ):
        with pytest.raises(CheckpointError, match="ood"):
            from_tensors(broken, RATE)
