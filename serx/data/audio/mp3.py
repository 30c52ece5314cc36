"""Encode MP3, for pages in a browser."""

import io

import numpy as np
import soundfile

from serx.data.audio.resampling import resample

MP3_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000)  # of those that MP3 has, enough for speech


def encode_mp3(waveform: np.ndarray, rate: int) -> bytes:
    """An MP3 file of `waveform (T,)`, about 30 kbit/s for speech at 16 kHz: every browser plays it.

    Other sampling rates are converted to the next higher one of `MP3_RATES`, or to 24 kHz.

    >>> encode_mp3(np.zeros(16_000, np.float32), 16_000)[0] == 255  # the beginning of a frame
    True
    """
    target = next((known for known in MP3_RATES if known >= rate), MP3_RATES[-1])
    if target != rate:
        waveform = resample(waveform, rate, target)
    file = io.BytesIO()
    soundfile.write(
        file, waveform, target, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.5, bitrate_mode="VARIABLE"
    )
    return file.getvalue()
