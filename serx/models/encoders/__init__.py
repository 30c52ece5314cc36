"""Pretrained speech encoders: `waveform (B, T), lengths (B,) -> states [(B, N, D), ...], frames (B,)`.

architecture   the settings that build an encoder, as a checkpoint stores them
layers         what all encoders are made of: attention, masks of the input
whisper        Whisper's encoder, with its log-mel
wav2vec2       wav2vec 2.0, XLS-R, HuBERT, WavLM, data2vec-audio
lora           low-rank updates of an encoder's linear layers
loading        an encoder by its folder or its id on the Hugging Face hub
"""

from serx.models.encoders.architecture import Architecture, Wav2Vec2Architecture, WhisperArchitecture
from serx.models.encoders.layers import Encoder, EncoderOptions
from serx.models.encoders.loading import EncoderSource, build_encoder, load_encoder, resolve_encoder
from serx.models.encoders.lora import add_lora

__all__ = [
    "Architecture",
    "Encoder",
    "EncoderOptions",
    "EncoderSource",
    "Wav2Vec2Architecture",
    "WhisperArchitecture",
    "add_lora",
    "build_encoder",
    "load_encoder",
    "resolve_encoder",
]
