"""Encode test files with PyAV: any codec and container, and videos."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def encode(
    path: Path,
    wave: np.ndarray,
    rate: int,
    codec: str,
    container: str | None = None,
    bit_rate: int | None = None,
    video: bool = False,
    streams: int = 1,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes `wave (T,)` or `(T, channels)` to `path`, in as many audio streams as asked, behind a grey video.

    `options` are those of the container, such as `{"movflags": "empty_moov"}`.
    """
    samples = np.asarray(wave, np.float32).reshape(len(wave), -1)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with av.open(str(path), "w", format=container, options=options or {}) as file:
        film = file.add_stream("mpeg4", rate=10) if video else None
        sounds = [file.add_stream(codec, rate=rate, layout=layout) for _ in range(streams)]
        if film is not None:
            film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
            for i in range(int(10 * len(samples) / rate)):
                picture = av.VideoFrame.from_ndarray(np.full((48, 32), 9 * i % 255, np.uint8), format="yuv420p")
                picture.pts = i
                file.mux(film.encode(picture))
            file.mux(film.encode(None))
        for sound in sounds:
            if bit_rate:
                sound.bit_rate = bit_rate
            size, done = sound.codec_context.frame_size or 1024, 0
            queue, converter = av.AudioFifo(), av.AudioResampler(sound.codec_context.format.name, layout, rate)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for converted in [*converter.resample(frame), *converter.resample(None)]:
                queue.write(converted)
            while (part := queue.read(size, partial=True)) is not None:
                part.pts, part.time_base = done, Fraction(1, rate)
                done += part.samples
                file.mux(sound.encode(part))
            file.mux(sound.encode(None))
    return path
