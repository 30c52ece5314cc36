"""Channel statistics depend on the recording and not on its level or batch; left-out speakers set the limit."""

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt

from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import decode
from serx.dsp.channel import channel_feature_names, channel_features
from serx.errors import CheckpointError
from serx.ood import RELIABLE_SPEAKERS, OodDetector, unknown_reason
from tests.conftest import RATE, speechlike

K = len(channel_feature_names(RATE))


def bursts(seed: int, fade_seconds: float = 0.01, noise: float = 1e-4) -> np.ndarray:
    """White noise bursts of 150 ms that decay exponentially, with pauses between them."""
    random = np.random.default_rng(seed)
    time = np.arange(int(1.6 * RATE)) / RATE % 0.4
    envelope = np.where(time < 0.15, 1.0, np.exp(-(time - 0.15) / fade_seconds))
    return (0.1 * envelope * random.standard_normal(len(time)) + noise * random.standard_normal(len(time))).astype("f4")


def statistics_of(*clips: np.ndarray) -> np.ndarray:
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    return channel_features(batch, lengths, RATE).numpy()


def test_statistics_do_not_depend_on_the_batch_or_the_level():
    clips = [bursts(0), bursts(1)[:9000], speechlike(0.7, 150, 2)]
    together = statistics_of(*clips)
    assert together.shape == (3, K) and np.isfinite(together).all()
    for clip, row in zip(clips, together, strict=True):
        np.testing.assert_allclose(statistics_of(clip)[0], row, atol=1e-3)
        np.testing.assert_allclose(statistics_of(0.01 * clip)[0], row, atol=1e-3)


def test_all_bands_of_white_noise_have_the_same_level():
    random = np.random.default_rng(0)
    [row] = statistics_of(random.standard_normal(RATE * 20).astype("f4"))
    by_kind = {
        kind: row[[name[0] == kind for name in channel_feature_names(RATE)]] for kind in ("pauses", "medians", "peaks")
    }
    assert (
        np.abs(by_kind["medians"][3:]).max() < 0.7
    )  # wide bands only: the median of a chi-square of few degrees is below its mean
    assert (by_kind["pauses"] < by_kind["medians"]).all() and (by_kind["medians"] < by_kind["peaks"]).all()


@pytest.mark.parametrize("seconds", [0.02, 0.05])
def test_fading_is_the_decay_of_the_sound(seconds):
    [row] = statistics_of(bursts(0, seconds, noise=0.0))
    fading = row[[name[0] == "fading" for name in channel_feature_names(RATE)]]
    exact = 20 * np.log10(np.exp(-0.048 / seconds))
    np.testing.assert_allclose(fading, exact, rtol=0.25)


def test_a_lower_sample_rate_has_the_bands_below_its_nyquist_frequency():
    assert max(high for _, _, high in channel_feature_names(8000)) == 4000
    assert channel_features(torch.randn(2, 8000), torch.tensor([8000, 5000]), 8000).shape == (
        2,
        len(channel_feature_names(8000)),
    )


def test_digital_silence_within_a_clip_gives_finite_statistics():
    silent = bursts(0)
    silent[3000:9000] = 0
    assert np.isfinite(statistics_of(silent)).all()


def test_a_clip_too_short_to_describe_is_not_reported():
    detector = OodDetector.fit(statistics_of(*(bursts(n) for n in range(12))), [str(n % 4) for n in range(12)])
    waveform, lengths = torch.randn(2, 4000), torch.tensor([700, 4000])
    assert detector.explain(waveform, lengths, RATE)[0] is None


@pytest.fixture(scope="module")
def detector() -> OodDetector:
    clips = [bursts(n, 0.01 + 0.002 * (n % 5)) for n in range(40)]
    fitted = OodDetector.fit(statistics_of(*clips), [str(n % 5) for n in range(40)])
    assert fitted is not None
    return fitted


def explain(detector: OodDetector, clip: np.ndarray) -> str | None:
    return detector.explain(torch.from_numpy(clip.astype("f4"))[None], torch.tensor([len(clip)]), RATE)[0]


def test_new_clips_through_the_same_channel_are_not_reported(detector):
    assert [explain(detector, 0.2 * bursts(100 + n, 0.011 + 0.001 * n)) for n in range(6)] == [None] * 6


def test_noise_a_room_and_a_low_pass_are_explained_by_their_effect(detector):
    noisy = explain(detector, bursts(200, 0.012, noise=0.03))
    assert noisy is not None and ("pauses" in noisy or "noise or a room?" in noisy) and "Hz" in noisy
    reverberant = explain(detector, bursts(201, 0.2))
    assert reverberant is not None and ("noise or a room?" in reverberant or "pauses" in reverberant)
    low_pass = explain(detector, sosfilt(butter(8, 2000, output="sos", fs=RATE), bursts(202, 0.012)))
    assert low_pass is not None and "softer at" in low_pass


def test_the_limit_is_measured_on_left_out_speakers():
    random = np.random.default_rng(0)
    separate = np.repeat(random.normal(0, 20, (6, K)), 30, 0) + random.normal(0, 1, (180, K))
    speakers = [str(n // 30) for n in range(180)]
    fitted = OodDetector.fit(separate, speakers)
    assert fitted.limit > 2 * fitted.distances(separate).max()  # six speakers far from each other, each consistent
    mixed = OodDetector.fit(separate, [str(n % 6) for n in range(180)])
    assert mixed.limit < 2 * mixed.distances(separate).max()


def test_two_speakers_are_too_few_for_a_detector():
    assert OodDetector.fit(statistics_of(*(bursts(n) for n in range(8))), ["a", "b"] * 4) is None


def test_what_too_few_speakers_cannot_tell_is_unknown_with_the_number_that_is_needed():
    for speakers in range(RELIABLE_SPEAKERS):
        reason = unknown_reason(speakers)
        assert reason.startswith(f"unknown: fitted on {speakers} speaker") and "; 8 are needed to know" in reason
    assert "1 speaker;" in unknown_reason(1)
    assert unknown_reason(RELIABLE_SPEAKERS) is unknown_reason(100) is None


@pytest.mark.speech
def test_a_detector_of_three_speakers_misses_noise_that_one_of_eight_flags(speech_root):
    statistics: dict[str, np.ndarray] = {}
    noisy = []
    for folder in sorted((speech_root / "ravdess16k").iterdir())[:10]:
        clips = [decode(path, AudioConfig()) for path in sorted(folder.iterdir())[::10]]
        statistics[folder.name] = statistics_of(*clips)
        noise = [np.random.default_rng(n).standard_normal(len(clip)) for n, clip in enumerate(clips)]
        scaled = [0.5 * clip.std() * white for clip, white in zip(clips, noise, strict=True)]  # 6 dB SNR
        noisy.append(statistics_of(*((clip + white).astype("f4") for clip, white in zip(clips, scaled, strict=True))))

    def flagged(count: int) -> float:
        names = list(statistics)[:count]
        speakers = [name for name in names for _ in statistics[name]]
        detector = OodDetector.fit(np.concatenate([statistics[name] for name in names]), speakers)
        return (detector.distances(np.concatenate(noisy[8:])) > detector.limit).mean()

    assert flagged(3) < 0.5
    assert flagged(8) > 0.9


def test_a_large_corpus_is_sampled():
    class BatchSource:
        requested = 0

        def batch(self, clips):
            self.requested += len(clips)
            return torch.randn(len(clips), 3200), torch.full((len(clips),), 3200)

    source = BatchSource()
    assert OodDetector.fit_clips(source.batch, np.arange(7000), [str(n % 9) for n in range(7000)], RATE) is not None
    assert source.requested == 3000


def test_tensors_restore_the_detector_and_invalid_ones_raise(detector):
    tensors = detector.tensors()
    restored = OodDetector.from_tensors(tensors, RATE)
    assert np.array_equal(restored.covariance, detector.covariance) and restored.limit == detector.limit
    assert OodDetector.from_tensors({}, RATE) is None
    for broken in (
        {name: tensor for name, tensor in tensors.items() if name != "limit"},
        tensors | {"mean": tensors["mean"][:-1]},
        tensors | {"mean": tensors["mean"].float()},
        tensors | {"covariance": -tensors["covariance"]},
        tensors | {"mean": 1e9 + tensors["mean"]},
        tensors | {"x": tensors["limit"]},
    ):
        with pytest.raises(CheckpointError, match="ood"):
            OodDetector.from_tensors(broken, RATE)
