"""Architectures of encoders, in the words of transformers' configurations: all that is needed to build one.

A checkpoint stores the architecture of its encoder, so that it opens without the encoder's source. The bounds keep a
damaged or hostile file from taking all memory.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from serx.base_config import BaseConfig

Layers = Annotated[int, Field(ge=1, le=128)]
Heads = Annotated[int, Field(ge=1, le=256)]
Channels = Annotated[int, Field(ge=1, le=1 << 15)]
Count = Annotated[int, Field(ge=1, le=1 << 16)]
ConvSizes = Annotated[tuple[Channels, ...], Field(min_length=1, max_length=32)]


def _gelu(name: str) -> str:
    if name != "gelu":
        raise ValueError(f"only gelu is supported, not {name}")
    return name


Activation = Annotated[str, AfterValidator(_gelu)]


def _divides(heads: int, width: int) -> None:
    if width % heads:
        raise ValueError(f"{width} channels cannot be shared by {heads} attention heads")


class WhisperArchitecture(BaseConfig):
    """The encoder of Whisper (Radford et al. 2022)."""

    model_type: Literal["whisper"] = "whisper"
    d_model: Channels
    encoder_layers: Layers
    encoder_attention_heads: Heads
    encoder_ffn_dim: Channels
    num_mel_bins: Annotated[int, Field(ge=1, le=1024)]
    max_source_positions: Count
    activation_function: Activation = "gelu"
    scale_embedding: bool = False

    @model_validator(mode="after")
    def _check_heads(self) -> "WhisperArchitecture":
        _divides(self.encoder_attention_heads, self.d_model)
        return self


class Wav2Vec2Architecture(BaseConfig):
    """wav2vec 2.0 (Baevski et al. 2020), XLS-R, HuBERT, WavLM and data2vec-audio, which share their layout."""

    model_type: Literal["wav2vec2", "hubert", "wavlm", "data2vec-audio"]
    hidden_size: Channels
    num_hidden_layers: Layers
    num_attention_heads: Heads
    intermediate_size: Channels
    conv_dim: ConvSizes
    conv_kernel: ConvSizes
    conv_stride: ConvSizes
    conv_bias: bool
    feat_extract_norm: Literal["group", "layer"]
    feat_extract_activation: Activation = "gelu"
    feat_proj_layer_norm: bool = True
    hidden_act: Activation = "gelu"
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)]
    do_stable_layer_norm: bool
    num_conv_pos_embeddings: Count
    num_conv_pos_embedding_groups: Count
    conv_pos_kernel_size: Count | None = None
    num_buckets: Count | None = None
    max_bucket_distance: Count | None = None
    do_normalize: bool = True

    @model_validator(mode="after")
    def _check_sizes(self) -> "Wav2Vec2Architecture":
        _divides(self.num_attention_heads, self.hidden_size)
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride):
            raise ValueError("conv_dim, conv_kernel and conv_stride have different lengths")
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ValueError(
                f"{self.hidden_size} channels do not divide into {self.num_conv_pos_embedding_groups} groups"
            )
        if (self.model_type == "wavlm" and (self.num_buckets or 0) < 4) or self.max_bucket_distance == 1:
            raise ValueError("wavlm needs num_buckets of 4 or more and max_bucket_distance above 1")
        if self.model_type == "data2vec-audio" and self.conv_pos_kernel_size is None:
            raise ValueError("data2vec-audio needs conv_pos_kernel_size")
        return self


Architecture = Annotated[WhisperArchitecture | Wav2Vec2Architecture, Field(discriminator="model_type")]
