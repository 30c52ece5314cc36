"""Signal processing on batches: pure functions of tensors, on any device, each clip by itself.

    spectrum       frames, STFT power, decibels, DCT
    mel            mel filter bank and mel power
    mel_warp       pitch shift and time stretch within the mel spectrogram
    chroma         pitch classes and tonal centroids
    descriptors    level, zero crossings, and the shape of the spectrum
    pitch          fundamental frequency and voicing by YIN
    deltas         time derivatives of features
    statistics     mean, deviation, quantiles over a clip's frames
    channel        a description of microphone, room and line
    resampling     speed change: pitch and tempo together
    vocoder        pitch or tempo alone, by a phase vocoder without angles
    fft_filter     filters and convolution by FFT of the whole clip
    noise          white, pink and brown noise at a signal-to-noise ratio
    batching       masks, cached constants, a few clips at a time on a CPU

B clips, T samples, F rows, N frames. A waveform is `(B, T)` float32 in [-1, 1], zero beyond `lengths (B,)`. Here
spectra are `(B, N, bins)`, frames before bins; `serx.features` returns `(B, F, N)`. What is computed for a clip depends
neither on its padding nor on the other clips of the batch.
"""

from serx.dsp.batching import valid_mask
from serx.dsp.channel import channel_feature_names, channel_features
from serx.dsp.chroma import chroma_cqt, chroma_stft, tonnetz
from serx.dsp.deltas import delta
from serx.dsp.descriptors import (
    rms,
    spectral_bandwidth,
    spectral_centroid,
    spectral_contrast,
    spectral_flatness,
    spectral_rolloff,
    zero_crossing_rate,
)
from serx.dsp.fft_filter import convolve, fft_size, high_pass_response, low_pass_response, peak_response, shape_spectrum
from serx.dsp.mel import MelScale, mel_filters, mel_power
from serx.dsp.mel_warp import Warp, shifted_mel_power, stretch_frames
from serx.dsp.noise import add_at_snr, read_table
from serx.dsp.pitch import PitchTrack, track_pitch
from serx.dsp.resampling import change_speed, change_speed_uniformly
from serx.dsp.spectrum import analysis_window, dct_matrix, frame_count, power_spectrum, power_to_db
from serx.dsp.statistics import row_statistics, summarize
from serx.dsp.vocoder import change_pitch, change_pitch_and_tempo, change_tempo, window_size

__all__ = [
    "MelScale",
    "PitchTrack",
    "Warp",
    "add_at_snr",
    "analysis_window",
    "change_pitch",
    "change_pitch_and_tempo",
    "change_speed",
    "change_speed_uniformly",
    "change_tempo",
    "channel_feature_names",
    "channel_features",
    "chroma_cqt",
    "chroma_stft",
    "convolve",
    "dct_matrix",
    "delta",
    "fft_size",
    "frame_count",
    "high_pass_response",
    "low_pass_response",
    "mel_filters",
    "mel_power",
    "peak_response",
    "power_spectrum",
    "power_to_db",
    "read_table",
    "rms",
    "row_statistics",
    "shape_spectrum",
    "shifted_mel_power",
    "spectral_bandwidth",
    "spectral_centroid",
    "spectral_contrast",
    "spectral_flatness",
    "spectral_rolloff",
    "stretch_frames",
    "summarize",
    "tonnetz",
    "track_pitch",
    "valid_mask",
    "window_size",
    "zero_crossing_rate",
]
