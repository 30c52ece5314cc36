"""Another program's samples and a microphone's give the same speech as a file does."""

import io
import sys
import threading
import types
from typing import ClassVar

import numpy as np
import pytest

from serx.errors import ConfigError, DataError
from serx.inference.streaming import from_microphone, from_stream

RATE = 16_000


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def raw(waveform: np.ndarray) -> bytes:
    return np.round(waveform * 32768).clip(-32768, 32767).astype("<i2").tobytes()


def loudest_hertz(waveform: np.ndarray, rate: int) -> float:
    return float(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax() * rate / len(waveform))


class Trickle(io.BytesIO):
    """Gives an odd number of bytes at a time, as a pipe may."""

    def read(self, size=-1):
        return super().read(min(size, 777))


@pytest.mark.parametrize("pipe", [io.BytesIO, Trickle])
def test_raw_samples_come_through_as_they_are(pipe):
    expected = tone(440, 1.3, RATE)
    heard = np.concatenate(list(from_stream(pipe(raw(expected)), RATE, RATE)))
    assert heard.dtype == np.float32
    np.testing.assert_allclose(heard, expected, atol=1 / 32768)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_another_rate_keeps_pitch_and_length(rate):
    heard = np.concatenate(list(from_stream(io.BytesIO(raw(tone(440, 2.0, rate))), rate, RATE)))
    assert len(heard) == pytest.approx(2 * RATE, abs=2)
    assert loudest_hertz(heard, RATE) == pytest.approx(440, abs=1)
    assert np.abs(heard[2000:-2000]).max() == pytest.approx(0.5, abs=0.01)


def test_a_rate_that_is_none_and_a_stream_of_nothing_are_refused():
    with pytest.raises(ConfigError, match="--sample-rate 12: samples a second"):
        next(from_stream(io.BytesIO(b"1234"), 12, RATE))
    with pytest.raises(DataError, match="nothing came from standard input"):
        list(from_stream(io.BytesIO(), RATE, RATE))


class FakeStream:
    """sounddevice's InputStream, into which a thread plays a tone of 443 Hz."""

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
            self.callback(buffer, self.blocksize, None, None)  # the driver uses its buffer again
        self.ended.wait()


@pytest.fixture
def sounddevice(monkeypatch):
    """A system with one input, number 3, of 48 kHz."""
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
def test_a_microphone_is_heard_at_its_own_rate_and_let_go_afterwards(sounddevice, name, device):
    source = from_microphone(name, RATE)
    blocks = [next(source) for _ in range(25)]
    source.close()
    [stream] = FakeStream.opened
    assert (stream.samplerate, stream.device) == (48_000, device)
    assert stream.ended.is_set()
    heard = np.concatenate(blocks)
    assert len(heard) == pytest.approx(2.5 * RATE, rel=0.02)
    np.testing.assert_allclose(heard[200:], tone(443, 3.0, RATE)[200 : len(heard)], atol=1e-3)


def test_a_microphone_that_is_not_there_is_refused_with_those_that_are(sounddevice):
    with pytest.raises(ConfigError, match=r"--microphone 9: No input device matching 9; inputs: 3 USB mic"):
        from_microphone("9", RATE)


def test_a_missing_library_is_told_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[microphone\]'"):
        from_microphone(None, RATE)
    monkeypatch.delitem(sys.modules, "sounddevice")
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="PortAudio library not found; install it"):
        from_microphone(None, RATE)
