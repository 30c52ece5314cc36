"""Models: `features (B, F, N), frames (B,) -> logits (B, C)`, one file an architecture.

registry         `register_model`: the kinds that `model.kind` can name, and how your own joins them
backbone         what every kind becomes: one network or an ensemble, with relaxed frequency normalization
layers           masks, residual blocks, attentive pooling: layers that respect the end of each clip
cnn2d            `kind: cnn2d`: residual convolutions over the spectrogram; with `gru`, a CRNN
cnn1d            `kind: cnn1d`: residual convolutions over time
mlp              `kind: mlp`: dense layers over one vector a clip
sequential       `kind: sequential`: plain convolutions in a row, as published 1-D CNNs
classical        `kind: classical`: scikit-learn's logistic regression and SVM
timm_backbone    `kind: timm`: image networks by name
encoder_config   the settings of every model on a pretrained encoder
encoder_probe    `kind: encoder_probe`: a small classifier on the layers of a frozen pretrained encoder
linear_probe     `kind: linear_probe`: logistic regression on the layers of a frozen pretrained encoder
speech_encoder   `kind: speech_encoder`: a pretrained encoder with a small head
frame_cache      the frames of a frozen encoder, kept on disk
vector_cache     the vectors of a frozen network, kept on disk
ensemble         `kind: ensemble`: trained models of any kinds that vote; `serx ensemble` builds it
waveform_model   a model with its features and normalizer: waveform to logits
published        emotion models of the Hugging Face hub, for prediction
encoders         Whisper, wav2vec 2.0, HuBERT, WavLM ... from a folder or the Hugging Face hub
"""

from serx.models.backbone import Backbone, build_model
from serx.models.classical import ClassicalConfig
from serx.models.cnn1d import Cnn1dConfig
from serx.models.cnn2d import Cnn2dConfig
from serx.models.encoder_probe import EncoderProbeConfig
from serx.models.ensemble import EnsembleConfig, VoterConfig
from serx.models.layers import OutputLayer, strided_frames, time_mask
from serx.models.linear_probe import LinearProbeConfig
from serx.models.mlp import MlpConfig
from serx.models.published import PublishedClassifierConfig
from serx.models.registry import BaseModelConfig, ModelConfig, model_kinds, register_model
from serx.models.sequential import SequentialConfig
from serx.models.speech_encoder import SpeechEncoderConfig
from serx.models.timm_backbone import TimmConfig
from serx.models.waveform_model import WaveformModel

__all__ = [
    "Backbone",
    "BaseModelConfig",
    "ClassicalConfig",
    "Cnn1dConfig",
    "Cnn2dConfig",
    "EncoderProbeConfig",
    "EnsembleConfig",
    "LinearProbeConfig",
    "MlpConfig",
    "ModelConfig",
    "OutputLayer",
    "PublishedClassifierConfig",
    "SequentialConfig",
    "SpeechEncoderConfig",
    "TimmConfig",
    "VoterConfig",
    "WaveformModel",
    "build_model",
    "model_kinds",
    "register_model",
    "strided_frames",
    "time_mask",
]
