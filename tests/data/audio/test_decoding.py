"""Decoding: every format gives the same waveform, and every broken file its reason."""

import numpy as np
import pytest
import soundfile

from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import audio_duration, decode, read_audio, read_blocks
from serx.data.audio.error import AudioError
from tests.conftest import RATE, speechlike

PLAIN = AudioConfig()


@pytest.fixture
def wave() -> np.ndarray:
    return speechlike(1.0, 200, 0)


def write(path, samples, rate=RATE, **how):
    soundfile.write(path, samples, rate, **how)
    return path


@pytest.mark.parametrize(
    ("name", "how", "tolerance"),
    [
        ("a.wav", {"subtype": "PCM_U8"}, 1e-2),
        ("a.wav", {"subtype": "PCM_16"}, 1e-4),
        ("a.wav", {"subtype": "PCM_24"}, 1e-6),
        ("a.wav", {"subtype": "PCM_32"}, 1e-6),
        ("a.wav", {"subtype": "FLOAT"}, 1e-6),
        ("a.flac", {}, 1e-4),
        ("a.aiff", {}, 1e-4),
    ],
    ids=str,
)
def test_lossless_formats_give_the_same_waveform(name, how, tolerance, wave, tmp_path):
    assert np.abs(decode(write(tmp_path / name, wave, **how), PLAIN) - wave).max() < tolerance


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(
    "form", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "NIST", "VOC", "SVX", "PAF"]
)
def test_samples_of_16_bits_are_those_of_libsndfile(form, channels, tmp_path):
    samples = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (20_000, channels), np.int16)
    samples[:2] = [[-(1 << 15)], [(1 << 15) - 1]]
    path = tmp_path / f"a.{form.lower()}"
    try:
        soundfile.write(path, samples, RATE, format=form, subtype="PCM_16")
    except soundfile.LibsndfileError:
        pytest.skip("libsndfile does not write so many channels")
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(axis=1)
    assert np.array_equal(decode(path, PLAIN), expected)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_correlate_with_the_original(name, wave, tmp_path):
    decoded = decode(write(tmp_path / name, wave), PLAIN)
    size = min(len(decoded), len(wave))
    lag = np.argmax(np.correlate(decoded[:size], wave[:size], "full")) - size + 1
    aligned = np.roll(decoded[:size], -lag)[2000:-2000]
    assert np.corrcoef(aligned, wave[:size][2000:-2000])[0, 1] > 0.99


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_a_tone_keeps_its_pitch_level_and_duration_at_any_rate(rate, tmp_path):
    source = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    decoded = decode(write(tmp_path / "a.wav", source, rate, subtype="FLOAT"), PLAIN)
    ideal = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert abs(len(decoded) - RATE) <= 1
    assert np.abs(decoded[800:15_000] - ideal[800:15_000]).max() < 2e-3


def test_resampling_does_not_alias(tmp_path):
    source = np.sin(2 * np.pi * 8_400 * np.arange(48_000) / 48_000).astype(np.float32)
    decoded = decode(write(tmp_path / "a.wav", source, 48_000, subtype="FLOAT"), PLAIN)
    assert 20 * np.log10(np.abs(decoded[500:-500]).max()) < -90


def error_reason(path, config=PLAIN) -> str:
    with pytest.raises(AudioError) as caught:
        decode(path, config)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_each_broken_file_raises_with_its_reason(wave, tmp_path):
    whole = write(tmp_path / "whole.wav", wave)
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[:9000])
    text = tmp_path / "text.wav"
    text.write_text("version https://git-lfs.github.com/spec/v1\n")
    empty = tmp_path / "empty.wav"
    empty.touch()
    bad = wave.copy()
    bad[50] = np.nan
    cases = {
        "truncated": cut,
        "not_audio": text,
        "empty": empty,
        "unreadable": tmp_path / "absent.wav",
        "nonfinite": write(tmp_path / "nan.wav", bad, subtype="FLOAT"),
        "silent": write(tmp_path / "silent.wav", wave * 0),
        "absurd_level": write(tmp_path / "loud.wav", wave * 1e6, subtype="FLOAT"),
        "too_short": write(tmp_path / "short.wav", wave[:200]),
        "bad_rate": write(tmp_path / "slow.wav", wave, 2_000),
        "too_many_channels": write(tmp_path / "many.wav", np.tile(wave[:1000, None], 40)),
    }
    assert {reason: error_reason(path) for reason, path in cases.items()} == {reason: reason for reason in cases}
    assert error_reason(whole, AudioConfig(max_seconds=0.5)) == "too_long"


def test_a_header_without_samples_is_empty(tmp_path):
    assert error_reason(write(tmp_path / "none.wav", np.zeros(0, np.float32))) == "empty"


def test_a_long_file_raises_before_it_is_decoded(tmp_path, monkeypatch):
    path = write(tmp_path / "bomb.flac", np.zeros(RATE * 120, np.int16))
    monkeypatch.setattr(soundfile.SoundFile, "buffer_read_into", lambda *a, **k: pytest.fail("decoded"))
    assert error_reason(path) == "too_long"


@pytest.mark.speech
def test_native_and_resampled_ravdess_clips_are_equal(speech_root):
    for native_path in sorted((speech_root / "ravdess-native").rglob("*.wav")):
        low_path = speech_root / "ravdess16k" / native_path.parent.name / f"{native_path.stem}.flac"
        native, low = decode(native_path, PLAIN), decode(low_path, PLAIN)
        size = min(len(native), len(low))
        assert abs(len(native) - len(low)) <= 1
        assert np.abs(native[:size] - low[:size]).max() < 1e-3


def test_the_window_is_cut_before_resampling_and_trimming(tmp_path):
    """`offset_seconds` counts from the beginning of the file."""
    path, rate = tmp_path / "a.wav", 8000
    wave = np.linspace(0.1, 0.9, 2 * rate, dtype=np.float32) * np.resize(np.float32([1, -1]), 2 * rate)
    soundfile.write(path, wave, rate, subtype="FLOAT")
    for offset, duration, expected in [
        (0.5, 1.0, (4000, 12000)),
        (1.5, 1.0, (12000, 16000)),
        (0.25, None, (2000, 16000)),
    ]:
        decoded = decode(path, AudioConfig(sample_rate=rate, offset_seconds=offset, duration_seconds=duration))
        np.testing.assert_array_equal(decoded, wave[slice(*expected)])


def test_a_file_that_ends_before_its_window_is_too_short(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(8000, 0.5), 16000)
    with pytest.raises(AudioError, match=r"0\.500 s, data\.offset_seconds is 0\.5") as caught:
        decode(path, AudioConfig(offset_seconds=0.5))
    assert caught.value.reason == "too_short"


@pytest.mark.parametrize("rate", [8_000, RATE, 44_100])
def test_blocks_of_a_recording_join_to_the_decoded_clip(rate, tmp_path):
    time = np.arange(15 * rate) / rate
    wave = (0.3 * np.sin(2 * np.pi * 300 * time) + 0.2 * np.sin(2 * np.pi * 1234 * time)).astype(np.float32)
    path = write(tmp_path / "long.wav", np.stack([wave, 0.5 * wave], axis=1), rate)
    parts = list(read_blocks(path, RATE))
    assert len(parts) > 2
    assert max(map(len, parts)) <= 140_000
    whole = decode(path, AudioConfig(sample_rate=RATE))
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)


def test_a_recording_longer_than_max_seconds_is_read_in_blocks(tmp_path):
    path = write(tmp_path / "hour.flac", np.full(RATE * 90, 100, np.int16))
    assert error_reason(path) == "too_long"
    assert sum(map(len, read_blocks(path, RATE))) == RATE * 90
    assert audio_duration(path) == 90


def test_a_fault_in_a_long_recording_raises_after_the_good_blocks(tmp_path):
    def seconds_and_reason(path) -> tuple[float, str]:
        blocks = []
        with pytest.raises(AudioError) as caught:
            blocks.extend(read_blocks(path, RATE))
        return sum(map(len, blocks)) / RATE, caught.value.reason

    wave = np.full(20 * RATE, 0.1, np.float32)
    whole = write(tmp_path / "whole.wav", wave)
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole.read_bytes()[: 2 * 12 * RATE])
    assert seconds_and_reason(cut) == (pytest.approx(12, abs=0.01), "truncated")
    for value, reason in [(np.nan, "nonfinite"), (1e6, "absurd_level")]:
        bad = wave.copy()
        bad[10 * RATE] = value
        seconds, actual = seconds_and_reason(write(tmp_path / "bad.wav", bad, subtype="FLOAT"))
        assert actual == reason
        assert 5 < seconds < 10
    assert seconds_and_reason(write(tmp_path / "none.wav", np.zeros(0, np.float32))) == (0, "empty")
    assert seconds_and_reason(tmp_path / "absent.wav") == (0, "unreadable")


def test_read_audio_takes_a_string_and_decodes_as_training_does(wave, tmp_path):
    path = write(tmp_path / "a.wav", np.concatenate([np.zeros(4000), wave]), 8_000)
    config = AudioConfig(sample_rate=RATE, trim_db=35.0)
    assert np.array_equal(read_audio(str(path), sample_rate=RATE, trim_db=35.0), decode(path, config))
    assert len(read_audio(path)) == 2 * (len(wave) + 4000)


@pytest.mark.parametrize("frames", [(1 << 16) + 5, (1 << 20) + 7])
def test_a_long_file_of_one_channel_is_decoded_to_its_samples(frames, tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, frames).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    decoded = decode(tmp_path / "a.wav", AudioConfig(sample_rate=RATE, max_seconds=600))
    assert np.array_equal(decoded, samples)
