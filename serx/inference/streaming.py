"""Where running speech comes from, beside files: another program's output, or a microphone. Blocks of mono."""

import queue
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from serx.data.audio import MAX_RATE, MIN_RATE, make_resampler
from serx.errors import ConfigError, DataError

BLOCK_SECONDS = 0.1
_FULL_SCALE = 1 << 15


def from_stream(stream: BinaryIO, stream_rate: int, rate: int) -> Iterator[np.ndarray]:
    """Raw samples, signed 16 bits, little-endian, one channel, `stream_rate` a second, as `(t,)` float32 at `rate`.

    Raises:
        ConfigError: `stream_rate` is no rate of audio.
        DataError: the stream held nothing.
    """
    if not MIN_RATE <= stream_rate <= MAX_RATE:
        raise ConfigError(f"--sample-rate {stream_rate}: samples a second, {MIN_RATE} to {MAX_RATE}")
    resampler, half, size, heard = make_resampler(stream_rate, rate), b"", 2 * round(BLOCK_SECONDS * stream_rate), 0
    while data := stream.read(size):
        data, heard = half + data, heard + len(data)
        whole = len(data) // 2 * 2
        half = data[whole:]
        yield resampler.resample_chunk(np.frombuffer(data[:whole], "<i2").astype(np.float32) / _FULL_SCALE)
    if heard == 0:
        raise DataError("-: nothing came from standard input; pipe raw 16-bit samples into it")
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


def from_microphone(name: str | None, rate: int) -> Iterator[np.ndarray]:
    """What an input of the computer hears from now on, `(t,)` float32 at `rate`, until the caller has enough.

    `name` is its number or a part of its name; None is the system's own choice. It is opened at the rate it has, since
    not every system converts.

    Raises:
        ConfigError: sounddevice or PortAudio is missing, or there is no such input.
    """
    try:
        import sounddevice  # noqa: PLC0415 (for those who have a microphone)
    except ImportError as error:
        raise ConfigError("sounddevice, which reads microphones, is missing: pip install -e '.[microphone]'") from error
    except OSError as error:
        raise ConfigError(f"{error}; install it (Debian, Ubuntu: apt install libportaudio2)") from error
    wanted = int(name) if name is not None and name.isdigit() else name
    heard: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    try:
        own_rate = round(sounddevice.query_devices(wanted, "input")["default_samplerate"])
        stream = sounddevice.InputStream(
            samplerate=own_rate,
            blocksize=round(BLOCK_SECONDS * own_rate),
            device=wanted,
            channels=1,
            dtype="float32",
            callback=lambda block, *_: heard.put(block[:, 0].copy()),
        )
    except (ValueError, sounddevice.PortAudioError) as error:
        inputs = ", ".join(f"{d['index']} {d['name']}" for d in sounddevice.query_devices() if d["max_input_channels"])
        raise ConfigError(f"--microphone {name or '(default)'}: {error}; inputs: {inputs or 'none'}") from error

    def listen() -> Iterator[np.ndarray]:
        resampler = make_resampler(own_rate, rate)
        with stream:
            while True:
                yield resampler.resample_chunk(heard.get())

    return listen()
