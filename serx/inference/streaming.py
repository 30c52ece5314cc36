"""Audio that arrives while it is processed: another program's output, or a microphone, as blocks of mono samples."""

import queue
from collections.abc import Iterable, Iterator
from itertools import count
from typing import BinaryIO

import numpy as np

from serx.data.audio.resampling import make_resampler
from serx.data.audio.sound_file import MAX_RATE, MIN_RATE
from serx.errors import ConfigError, DataError

BLOCK_SECONDS = 0.1
_FULL_SCALE = 1 << 15


def pcm_blocks(stream: BinaryIO, stream_rate: int, rate: int) -> Iterator[np.ndarray]:
    """Yields raw samples (signed 16 bits, little-endian, mono) as blocks `(t,)` float32 at `rate`.

    Args:
        stream: open for reading bytes, such as `sys.stdin.buffer`.
        stream_rate: its sample rate in Hz.
        rate: of the blocks, in Hz.

    Raises:
        ConfigError: `stream_rate` is out of range.
        DataError: the stream is empty.

    >>> import io
    >>> blocks = list(pcm_blocks(io.BytesIO(bytes(2 * 8000)), 8000, 16_000))
    >>> sum(map(len, blocks)), blocks[0].dtype
    (16000, dtype('float32'))
    """
    if not MIN_RATE <= stream_rate <= MAX_RATE:
        raise ConfigError(f"--sample-rate {stream_rate}: must be {MIN_RATE} to {MAX_RATE} Hz")
    yield from resampled_blocks(_decoded_blocks(stream, stream_rate), stream_rate, rate)


def _decoded_blocks(stream: BinaryIO, stream_rate: int) -> Iterator[np.ndarray]:
    """What `stream` holds, `(t,)` float32 at its own rate."""
    odd_byte, size, total = b"", 2 * round(BLOCK_SECONDS * stream_rate), 0
    while data := stream.read(size):
        total += len(data)
        data = odd_byte + data  # a pipe may end a read in the middle of a sample
        whole = len(data) // 2 * 2
        odd_byte = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32) / _FULL_SCALE
    if total == 0:
        raise DataError("-: standard input is empty; pipe raw 16-bit samples into it")


def microphone_blocks(name: str | None, rate: int) -> Iterator[np.ndarray]:
    """Yields what a microphone records from now on as blocks `(t,)` float32 at `rate`, until the iterator is closed.

    The device is opened at its own sample rate, because not every system converts.

    Args:
        name: number of the input or a part of its name; None is the system's default.
        rate: of the blocks, in Hz.

    Raises:
        ConfigError: sounddevice or PortAudio is missing, or there is no such input.

    >>> blocks = microphone_blocks(None, 16_000)  # doctest: +SKIP
    """
    try:
        import sounddevice  # noqa: PLC0415 (an optional package)
    except ImportError as error:
        raise ConfigError("sounddevice, which reads microphones, is missing: pip install -e '.[microphone]'") from error
    except OSError as error:
        raise ConfigError(f"{error}; install it (Debian, Ubuntu: apt install libportaudio2)") from error
    device = int(name) if name is not None and name.isdigit() else name
    recorded: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
    try:
        device_rate = round(sounddevice.query_devices(device, "input")["default_samplerate"])
        stream = sounddevice.InputStream(
            samplerate=device_rate,
            blocksize=round(BLOCK_SECONDS * device_rate),
            device=device,
            channels=1,
            dtype="float32",
            callback=lambda block, *_: recorded.put(block[:, 0].copy()),
        )
    except (ValueError, sounddevice.PortAudioError) as error:
        inputs = ", ".join(f"{d['index']} {d['name']}" for d in sounddevice.query_devices() if d["max_input_channels"])
        raise ConfigError(f"--microphone {name or '(default)'}: {error}; inputs: {inputs or 'none'}") from error

    def record() -> Iterator[np.ndarray]:
        with stream:
            yield from resampled_blocks((recorded.get() for _ in count()), device_rate, rate)

    return record()


def resampled_blocks(blocks: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resamples consecutive blocks `(t,)` of one recording, without a seam between them.

    >>> sum(map(len, resampled_blocks([np.zeros(800, np.float32)] * 10, 8000, 16_000)))
    16000
    """
    resampler = make_resampler(from_rate, to_rate)
    for block in blocks:
        yield resampler.resample_chunk(block)
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
