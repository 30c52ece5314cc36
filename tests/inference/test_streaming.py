"""Samples from another program or a microphone arrive unchanged, at the right rate."""

import io
import sys
import threading
import types
from typing import ClassVar

import numpy as np
import pytest

from serx.errors import ConfigError, DataError
from serx.inference.streaming import microphone_blocks, pcm_blocks, resampled_blocks

RATE = 16_000


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def raw(waveform: np.ndarray) -> bytes:
    return np.round(waveform * 32768).clip(-32768, 32767).astype("<i2").tobytes()


def loudest_hertz(waveform: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax() * rate / len(waveform))


class OddReads(io.BytesIO):
    """Returns an odd number of bytes at a time, as a pipe may."""

    def read(self, size=-1):
        return super().read(min(size, 777))


@pytest.mark.parametrize("pipe", [io.BytesIO, OddReads])
def test_raw_samples_arrive_unchanged(pipe):
    expected = tone(440, 1.3, RATE)
    samples = np.concatenate(list(pcm_blocks(pipe(raw(expected)), RATE, RATE)))
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, atol=1 / 32768)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_resampling_keeps_pitch_level_and_duration(rate):
    samples = np.concatenate(list(pcm_blocks(io.BytesIO(raw(tone(440, 2.0, rate))), rate, RATE)))
    assert len(samples) == pytest.approx(2 * RATE, abs=2)
    assert loudest_hertz(samples, RATE) == pytest.approx(440, abs=1)
    assert np.abs(samples[2000:-2000]).max() == pytest.approx(0.5, abs=0.01)


def test_an_impossible_rate_and_an_empty_stream_raise_errors():
    with pytest.raises(ConfigError, match="--sample-rate 12: must be 4000 to 384000 Hz"):
        next(pcm_blocks(io.BytesIO(b"1234"), 12, RATE))
    with pytest.raises(DataError, match="standard input is empty"):
        list(pcm_blocks(io.BytesIO(), RATE, RATE))


@pytest.mark.parametrize("sizes", [[16_000], [1, 15_999], [160] * 100, [3000, 0, 13_000]])
def test_resampled_blocks_do_not_depend_on_the_block_sizes(sizes):
    wave = tone(440, 2.0, 8000)
    expected = np.concatenate(list(resampled_blocks([wave], 8000, RATE)))
    blocks = np.split(wave, np.cumsum(sizes)[:-1])
    np.testing.assert_allclose(np.concatenate(list(resampled_blocks(blocks, 8000, RATE))), expected, atol=1e-6)


class FakeStream:
    """sounddevice's InputStream, with a thread that plays a tone of 443 Hz into it."""

    opened: ClassVar[list["FakeStream"]] = []

    def __init__(self, samplerate, blocksize, device, channels, dtype, callback):
        assert (channels, dtype) == (1, "float32")
        self.samplerate, self.blocksize, self.device, self.callback = samplerate, blocksize, device, callback
        self.ended = threading.Event()
        FakeStream.opened.append(self)

    def __enter__(self):
        self.thread = threading.Thread(target=self._play)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def _play(self):
        wave, buffer = tone(443, 3.0, self.samplerate), np.empty((self.blocksize, 1), np.float32)
        for start in range(0, len(wave) - self.blocksize, self.blocksize):
            buffer[:, 0] = wave[start : start + self.blocksize]
            self.callback(buffer, self.blocksize, None, None)  # a driver reuses its buffer
        self.ended.wait()


@pytest.fixture
def sounddevice(monkeypatch):
    """A system with one microphone, device 3, at 48 kHz."""
    FakeStream.opened.clear()
    fake = types.ModuleType("sounddevice")
    fake.PortAudioError = type("PortAudioError", (Exception,), {})
    fake.InputStream = FakeStream

    def query_devices(device=None, kind=None):
        inputs = [{"index": 3, "name": "USB mic", "max_input_channels": 1, "default_samplerate": 48_000.0}]
        if kind is None:
            return [{"index": 0, "name": "speaker", "max_input_channels": 0}, *inputs]
        if device in (None, 3, "USB"):
            return inputs[0]
        raise ValueError(f"No input device matching {device!r}")

    fake.query_devices = query_devices
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


@pytest.mark.parametrize(("name", "device"), [(None, None), ("3", 3), ("USB", "USB")])
def test_a_microphone_is_opened_at_its_own_rate_and_closed_afterward(sounddevice, name, device):
    iterator = microphone_blocks(name, RATE)
    blocks = [next(iterator) for _ in range(25)]
    iterator.close()
    [stream] = FakeStream.opened
    assert (stream.samplerate, stream.device) == (48_000, device)
    assert stream.ended.is_set()
    samples = np.concatenate(blocks)
    assert len(samples) == pytest.approx(2.5 * RATE, rel=0.02)
    np.testing.assert_allclose(samples[200:], tone(443, 3.0, RATE)[200 : len(samples)], atol=1e-3)


def test_the_error_for_a_missing_microphone_lists_the_inputs(sounddevice):
    with pytest.raises(ConfigError, match=r"--microphone 9: No input device matching 9; inputs: 3 USB mic"):
        microphone_blocks("9", RATE)


def test_the_error_for_a_missing_library_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[microphone\]'"):
        microphone_blocks(None, RATE)
    monkeypatch.delitem(sys.modules, "sounddevice")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="PortAudio library not found; install it"):
        microphone_blocks(None, RATE)
