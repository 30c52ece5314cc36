"""`TimmBackbone`: image networks of timm by name, which read the spectrogram as an image of fixed width.

Image networks have no masks, so the image of a clip must not depend on its batch. Each clip is cut into windows of
`frames` frames (zeros fill the last one) and each window is classified alone. The logits of a clip are the mean over
its windows, weighted by how many valid frames each holds. The number of windows follows from the width of the batch,
which the host knows.

timm is imported where it is used: with torchvision it takes seconds, and most runs do not need it.
"""

import difflib
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from serx.base_config import Dropout, FilePath, Name
from serx.errors import ConfigError, is_out_of_memory
from serx.models.registry import BaseModelConfig, register_model


class TimmConfig(BaseModelConfig):
    """The name of a timm model, such as `resnet18`, and the width of its image.

    >>> TimmConfig(frames=96).name
    'resnet10t'
    """

    kind: Literal["timm"] = "timm"
    name: Name = Field("resnet10t", description="a model of timm")
    pretrained: bool = Field(False, description="start from weights trained on images, summed over the color channels")
    weights: FilePath | None = Field(
        None, description="a .safetensors file of pretrained weights; null: downloaded once"
    )
    frames: int = Field(
        192, ge=32, le=1 << 14, description="width of the image that the network sees at a time, in frames"
    )
    dropout: Dropout = Field(0.2, description="before the output layer")

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        import timm

        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
            raise ValueError(f"timm has no model {name!r}; did you mean {', '.join(near) or 'resnet18'}?")
        return name

    @model_validator(mode="after")
    def _check_weights(self) -> "TimmConfig":
        if self.weights is not None and not (self.pretrained and self.weights.endswith(".safetensors")):
            raise ValueError("weights must name a .safetensors file and needs pretrained: true")
        return self


@register_model(TimmConfig)
class TimmBackbone(nn.Module):
    """A timm network over windows of the spectrogram.

    Raises:
        ConfigError: the pretrained weights cannot be loaded, or the network cannot read images of this size.
    """

    def __init__(self, config: TimmConfig, bins: int, classes: int, pretrained: bool = False) -> None:
        super().__init__()
        import timm

        self.frames = config.frames
        published = timm.get_pretrained_cfg(config.name)
        fixed_size = published is not None and published.fixed_input_size  # transformers need the size of the image
        options: dict[str, Any] = {"img_size": (bins, config.frames)} if fixed_size else {}
        if pretrained and config.weights is not None:
            options["pretrained_cfg_overlay"] = {"file": config.weights}
        try:
            self.net = timm.create_model(
                config.name, pretrained, in_chans=1, num_classes=classes, drop_rate=config.dropout, **options
            )
        except Exception as error:  # the network, the hub's library, safetensors and torch raise many classes
            if is_out_of_memory(error):
                raise
            if not pretrained:
                raise _wrong_size(config, bins, error) from error
            raise ConfigError(
                f"model.pretrained: cannot load {config.weights or f'published weights of {config.name}'} "
                f"({_first_line(error)}); set model.weights to a .safetensors file of them, or pretrained: false"
            ) from error
        if next(self.net.parameters()).device.type != "meta":  # a meta network only has shapes
            self._try_forward(config, bins)

    @classmethod
    def from_pretrained(cls, config: TimmConfig, bins: int, classes: int) -> "TimmBackbone":
        """With published weights where `config.pretrained` asks for them."""
        return cls(config, bins, classes, config.pretrained)

    @torch.no_grad()
    def _try_forward(self, config: TimmConfig, bins: int) -> None:
        """Runs an image of zeros in evaluation mode, which draws no random numbers and changes no statistics."""
        self.net.eval()
        try:
            self.net(torch.zeros(1, 1, bins, config.frames))
        except Exception as error:  # networks refuse sizes with many classes of error
            if is_out_of_memory(error):
                raise
            raise _wrong_size(config, bins, error) from error
        self.net.train()

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        windows = (features.shape[-1] + self.frames - 1) // self.frames  # rounds up in ONNX, too
        padded = F.pad(features, (0, windows * self.frames - features.shape[-1]))
        images = padded.unflatten(-1, (windows, self.frames)).transpose(1, 2)
        logits = self.net(images.flatten(0, 1)[:, None]).unflatten(0, (-1, windows))
        start = torch.arange(windows, device=frames.device) * self.frames
        valid = (frames[:, None] - start).clamp(0, self.frames).to(logits.dtype)[..., None]
        return (logits * valid).sum(1) / valid.sum(1)


def _wrong_size(config: TimmConfig, bins: int, error: Exception) -> ConfigError:
    return ConfigError(
        f"model.name: {config.name} cannot read images of {bins} rows and {config.frames} frames "
        f"({_first_line(error)}); make both (features.n_mels, model.frames) multiples of 32 and 96 or more, "
        "or name another network"
    )


def _first_line(error: Exception) -> str:
    """The class of an error and the first line of its message."""
    return "".join([type(error).__name__, *(f": {line}" for line in str(error).splitlines()[:1])])
