"""Features equal librosa's, have their closed-form values, and depend on neither padding nor other clips."""

import librosa
import numpy as np
import pytest
import torch

from serx.errors import ConfigError
from serx.features import FeaturesConfig, FeatureStack, feature_names
from tests.conftest import RATE, batched

FRONT_ENDS = ["torch", "torchaudio", "nnaudio"]
FEATURES = feature_names()


def by_librosa(wave: np.ndarray, config: FeaturesConfig) -> np.ndarray:
    """The same stack computed by librosa, `(F, N)`."""
    power = librosa.feature.melspectrogram(
        y=wave, sr=RATE, n_fft=config.n_fft, win_length=config.win_length, hop_length=config.hop_length,
        n_mels=config.n_mels, fmin=config.f_min, fmax=config.f_max, pad_mode="constant",
    )  # fmt: skip
    decibels = librosa.power_to_db(power, amin=config.amin, top_db=config.top_db)
    rows = {"logmel": decibels, "mfcc": librosa.feature.mfcc(S=decibels, n_mfcc=config.n_mfcc)}
    static = np.concatenate([rows[name] for name in config.stack])
    return np.concatenate([static, *[librosa.feature.delta(static, order=k + 1) for k in range(config.deltas)]])


def worst_relative_error(values: np.ndarray, reference: np.ndarray) -> float:
    return float(np.abs(values - reference).max() / np.abs(reference).max())


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"stack": ("logmel",)},
        {"stack": ("mfcc",), "deltas": 2},
        {
            "stack": ("logmel", "mfcc"),
            "n_fft": 512,
            "win_length": 400,
            "hop_length": 160,
            "f_min": 40.0,
            "f_max": 7600.0,
        },
        {"stack": ("logmel",), "top_db": None, "amin": 1e-8, "n_mels": 80},
    ],
    ids=["logmel", "mfcc+deltas", "stack-400-160", "no-top-db"],
)
def test_features_equal_librosa(front_end, settings, clips):
    config = FeaturesConfig(front_end=front_end, **settings)
    features, frames = FeatureStack(config, RATE)(*batched(clips, extra=999))
    for wave, values, count in zip(clips, features.numpy(), frames, strict=True):
        reference = by_librosa(wave, config)
        assert int(count) == reference.shape[1]
        size = config.bins // (1 + config.deltas)
        for first in range(0, config.bins, size):  # static features and deltas have different scales
            rows = slice(first, first + size)
            assert worst_relative_error(values[rows, : int(count)], reference[rows]) < 1e-4


@pytest.mark.speech
def test_features_equal_librosa_on_real_speech(speech_root):
    files = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[:6]
    waves = [librosa.load(path, sr=RATE)[0] for path in files]
    config = FeaturesConfig(stack=("logmel", "mfcc"), deltas=1)
    features, frames = FeatureStack(config, RATE)(*batched(waves))
    for wave, values, count in zip(waves, features.numpy(), frames, strict=True):
        assert worst_relative_error(values[:, : int(count)], by_librosa(wave, config)) < 1e-4


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_features_do_not_depend_on_other_clips_in_the_batch_or_on_padding(front_end, clips):
    for name in FEATURES:
        stack = FeatureStack(FeaturesConfig(stack=(name,), deltas=2, front_end=front_end), RATE)
        together, frames = stack(*batched(clips, extra=5000))
        for i, wave in enumerate(clips):
            alone, count = stack(*batched([wave]))
            assert count[0] == frames[i]
            # nnAudio's convolutions round by the width of the batch, which the contrast amplifies.
            rounding = front_end == "nnaudio" and name == "contrast"
            error = worst_relative_error(together[i, :, : int(count)].numpy(), alone[0].numpy())
            assert error < (1e-2 if rounding else 1e-5), name
            assert not together[i, :, int(count) :].any()


def test_deltas_of_a_clip_shorter_than_their_window_do_not_depend_on_padding(clips):
    stack = FeatureStack(FeaturesConfig(deltas=2), RATE)
    short = clips[1][3000:3700]  # three frames, loud up to the end
    alone, padded = stack(*batched([short]))[0], stack(*batched([short], extra=5000))[0]
    torch.testing.assert_close(padded[:, :, :3], alone, rtol=1e-5, atol=2e-4)
    assert alone[:, 64:].abs().max() > 0.1


def test_features_have_gradients_after_use_in_inference_mode(clips):
    """A filter bank that is cached under inference mode could not take part in training."""
    for stack in (("logmel", "mfcc"), tuple(name for name in FEATURES if name not in ("zcr", "rolloff"))):
        front = FeatureStack(
            FeaturesConfig(stack=stack, n_mels=41, n_fft=510), RATE
        )  # sizes that no other test has cached
        waveform, lengths = batched(clips)
        with torch.inference_mode():
            front(waveform, lengths)
        waveform.requires_grad_(True)
        front(waveform, lengths)[0].sum().backward()
        assert waveform.grad is not None
        assert stack != ("logmel", "mfcc") or waveform.grad.isfinite().all()


def test_the_floor_of_decibels_ignores_the_frame_after_the_last():
    wave = np.random.default_rng(0).standard_normal(256 * 8 + 254).astype(np.float32) * 1e-4
    wave[-1] = 1.0  # nearer to the center of the frame after the last than to that of the last
    for name in ("logmel", "mfcc", "contrast"):
        stack = FeatureStack(FeaturesConfig(stack=(name,), top_db=20.0), RATE)
        alone, padded = stack(*batched([wave]))[0], stack(*batched([wave], extra=4000))[0]
        torch.testing.assert_close(padded[:, :, :9], alone, rtol=1e-5, atol=1e-4)


def test_features_are_stacked_in_the_order_of_the_config_and_deltas_follow(clips):
    stack = FeatureStack(FeaturesConfig(stack=FEATURES, deltas=1), RATE)
    features, _ = stack(*batched(clips))
    row, half = 0, stack.config.bins // 2
    assert features.shape[1] == 2 * half
    for name in FEATURES:
        one = FeatureStack(FeaturesConfig(stack=(name,), deltas=1), RATE)
        alone, _ = one(*batched(clips))
        rows = one.config.bins // 2
        assert torch.equal(features[:, row : row + rows], alone[:, :rows]), name
        assert torch.equal(features[:, half + row : half + row + rows], alone[:, rows:]), name
        row += rows
    assert row == half


def test_a_tone_has_its_maximum_in_the_nearest_mel_band():
    config = FeaturesConfig(n_mels=40, top_db=None)
    centers = librosa.mel_frequencies(42, fmin=0, fmax=RATE / 2)[1:-1]
    time = np.arange(RATE) / RATE
    for hertz in (300.0, 1000.0, 3000.0):
        wave = np.sin(2 * np.pi * hertz * time).astype(np.float32)
        features, _ = FeatureStack(config, RATE)(*batched([wave]))
        assert int(features[0, :, 30].argmax()) == int(np.abs(centers - hertz).argmin())


def test_a_gain_adds_its_decibels_to_the_log_mels():
    stack = FeatureStack(FeaturesConfig(top_db=None, amin=1e-12), RATE)
    wave = np.random.default_rng(0).standard_normal(8000).astype(np.float32) * 0.1
    soft, _ = stack(*batched([wave]))
    loud, _ = stack(*batched([wave * 10]))
    torch.testing.assert_close(loud - soft, torch.full_like(soft, 20.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 7, 300])
@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0, 100.0])
def test_features_of_silence_of_full_scale_and_of_tiny_clips_are_finite(samples, level):
    for front_end in FRONT_ENDS:
        stack = FeatureStack(FeaturesConfig(stack=FEATURES, deltas=2, front_end=front_end), RATE)
        features, frames = stack(torch.full((2, samples), level), torch.tensor([samples, 1]))
        assert features.isfinite().all()
        assert (frames >= 1).all()


def test_features_are_float32_under_autocast(clips):
    stack = FeatureStack(FeaturesConfig(stack=FEATURES), RATE)
    plain, _ = stack(*batched(clips))
    with torch.autocast("cpu", torch.bfloat16):
        cast, _ = stack(*batched(clips))
    assert cast.dtype == torch.float32
    assert torch.equal(plain, cast)


def test_the_state_contains_trainable_filters_and_no_fixed_ones():
    for front_end in FRONT_ENDS:
        assert not FeatureStack(FeaturesConfig(front_end=front_end), RATE).state_dict()
    names = FeatureStack(FeaturesConfig(front_end="nnaudio", trainable=True), RATE).state_dict().keys()
    assert names == {"mel", "spectrum.transform.wsin", "spectrum.transform.wcos"}


def test_a_trainable_front_end_has_finite_gradients_even_with_silence(clips):
    stack = FeatureStack(FeaturesConfig(front_end="nnaudio", trainable=True, n_fft=256), RATE)
    features, _ = stack(*batched([*clips, np.zeros(4000, np.float32)]))
    features.mean().backward()
    for name, parameter in stack.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_contradicting_settings_are_errors():
    with pytest.raises(ValueError, match="n_mels"):
        FeaturesConfig(stack=("mfcc",), n_mfcc=80, n_mels=40)
    with pytest.raises(ValueError, match="n_fft"):
        FeaturesConfig(n_fft=512, win_length=600)
    with pytest.raises(ValueError, match="nnaudio"):
        FeaturesConfig(trainable=True)
    with pytest.raises(ValueError, match="mel, logmel and mfcc"):
        FeaturesConfig(trainable=True, front_end="nnaudio", stack=("logmel", "rms"))
    with pytest.raises(ValueError, match="pitch_max"):
        FeaturesConfig(pitch_min=500.0, pitch_max=300.0)
    with pytest.raises(ValueError, match="f_min 5000.0 is not below f_max 3000.0"):
        FeaturesConfig(f_min=5000.0, f_max=3000.0)
    with pytest.raises(ValueError, match="multiple of 32"):
        FeaturesConfig(stack=("chroma_cqt",), hop_length=250)
    with pytest.raises(ValueError, match="normalize: training"):
        FeaturesConfig(statistics=("mean",), normalize="clip")


@pytest.mark.parametrize(
    ("name", "key"), [("contrast", "contrast_bands"), ("chroma_cqt", "4186"), ("pitch", "pitch_max")]
)
def test_features_above_half_the_sample_rate_are_errors(name, key):
    with pytest.raises(ConfigError, match=key):
        FeatureStack(FeaturesConfig(stack=(name,), pitch_max=1500.0), 4000)


@pytest.mark.parametrize("edges", [{"f_min": 4000.0}, {"f_min": 9000.0}, {"f_max": 4001.0}])
def test_mel_bands_above_half_the_sample_rate_are_errors(edges):
    with pytest.raises(ConfigError, match="audio at 8000 Hz ends at 4000 Hz"):
        FeatureStack(FeaturesConfig(**edges), 8000)
    assert FeatureStack(FeaturesConfig(stack=("zcr",), **edges), 8000)  # has no mel bands
    assert FeatureStack(FeaturesConfig(f_max=4000.0), 8000)


def test_a_bare_list_is_the_stack():
    expected = FeaturesConfig(stack=("mfcc", "rms"))
    assert FeaturesConfig.model_validate(["mfcc", "rms"]) == expected
    assert FeaturesConfig(stack=["mfcc", "rms"]) == expected


def test_a_waveform_without_lengths_is_a_batch_of_full_clips(clips):
    stack = FeatureStack(FeaturesConfig(stack=("logmel", "zcr", "pitch")), RATE)
    wave = torch.from_numpy(clips[0])
    expected, frames = stack(wave[None], torch.tensor([len(wave)]))
    for waveform in (wave, wave[None]):
        features, counts = stack(waveform)
        assert torch.equal(features, expected) and torch.equal(counts, frames)


def test_the_waveform_stack_returns_the_samples():
    config = FeaturesConfig(stack=("waveform",), normalize="none")
    waveform, lengths = torch.randn(2, 500), torch.tensor([500, 300])
    features, frames = FeatureStack(config, RATE)(waveform, lengths)
    assert config.bins == 1
    assert torch.equal(features, waveform[:, None]) and torch.equal(frames, lengths)


@pytest.mark.parametrize("setting", [{"front_end": "nnaudio"}, {"stack": ("chroma_cqt",)}])
def test_nnaudio_convolutions_run_without_tf32(setting, clips, monkeypatch):
    stack, seen = FeatureStack(FeaturesConfig(**setting), RATE), []
    before = torch.backends.cudnn.allow_tf32
    transform = stack.constant_q.transform if "stack" in setting else stack.spectrum.transform
    transform.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    stack(*batched(clips))
    assert seen and not any(seen)
    assert torch.backends.cudnn.allow_tf32 == before
