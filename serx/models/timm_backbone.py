"""`TimmBackbone`: most image networks of timm by name, reading the spectrogram as a picture of fixed width.

Image networks have no masks, so a clip's picture must not depend on its batch: clips are cut into windows of
`frames` frames (zeros fill the last), each window is classified alone, and a clip's logits are the mean over its own
windows, weighted by how full they are. The number of windows follows from the batch's width, which the host knows.

timm is imported where it is used: with torchvision it takes seconds, and most runs have no need of it.
"""

import difflib
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from serx.errors import ConfigError
from serx.models.ensemble import BaseModelConfig


class TimmConfig(BaseModelConfig):
    """A timm model name such as `resnet18`, and how wide its picture is."""

    kind: Literal["timm"] = "timm"
    name: str = "resnet10t"
    pretrained: bool = False  # begin with weights trained on pictures, their colors added up
    weights: str | None = None  # with pretrained: a .safetensors file of them; default: the hub's, fetched once
    frames: int = Field(192, ge=32, le=1 << 14)
    dropout: float = Field(0.2, ge=0, lt=1)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        import timm

        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
            raise ValueError(f"timm has no model {name!r}; did you mean {', '.join(near) or 'resnet18'}?")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> "TimmConfig":
        if self.weights is not None and not (self.pretrained and self.weights.endswith(".safetensors")):
            raise ValueError("weights names a .safetensors file, and is for pretrained: true")
        return self


class TimmBackbone(nn.Module):
    """`features (B, F, N)`, `frames (B,)` -> `logits (B, C)`."""

    def __init__(self, config: TimmConfig, bins: int, classes: int, pretrained: bool) -> None:
        """Builds the network; `pretrained` is apart from the config, since a checkpoint brings its own weights.

        Raises:
            ConfigError: the pretrained weights cannot be had, or the network cannot read pictures of this size.
        """
        super().__init__()
        import timm

        self.frames = config.frames
        published = timm.get_pretrained_cfg(config.name)
        fixed = published is not None and published.fixed_input_size  # transformers: tell them the picture's size
        options: dict[str, Any] = {"img_size": (bins, config.frames)} if fixed else {}
        if pretrained and config.weights is not None:
            options["pretrained_cfg_overlay"] = {"file": config.weights}
        try:
            self.net = timm.create_model(
                config.name, pretrained, in_chans=1, num_classes=classes, drop_rate=config.dropout, **options
            )
        except Exception as error:  # of the net, the hub's library, safetensors or torch: their classes vary
            if not pretrained:
                raise _misfit(config, bins, error) from error
            raise ConfigError(
                f"model.pretrained: cannot load {config.weights or f'published weights of {config.name}'} "
                f"({_told(error)}); set model.weights to a .safetensors file of them, or pretrained: false"
            ) from error
        if next(self.net.parameters()).device.type != "meta":  # where only shapes are wanted
            self._try(config, bins)

    @torch.no_grad()
    def _try(self, config: TimmConfig, bins: int) -> None:
        """Shows the network a picture of zeros, in evaluation, which draws nothing and changes no statistics."""
        self.net.eval()
        try:
            self.net(torch.zeros(1, 1, bins, config.frames))
        except Exception as error:  # networks refuse sizes in many ways
            raise _misfit(config, bins, error) from error
        self.net.train()

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        windows = (features.shape[-1] + self.frames - 1) // self.frames  # rounded up, and in ONNX, too
        padded = F.pad(features, (0, windows * self.frames - features.shape[-1]))
        pictures = padded.unflatten(-1, (windows, self.frames)).transpose(1, 2)
        logits = self.net(pictures.flatten(0, 1)[:, None]).unflatten(0, (-1, windows))
        start = torch.arange(windows, device=frames.device) * self.frames
        filled = (frames[:, None] - start).clamp(0, self.frames).to(logits.dtype)[..., None]
        return (logits * filled).sum(1) / filled.sum(1)


def _misfit(config: TimmConfig, bins: int, error: Exception) -> ConfigError:
    return ConfigError(
        f"model.name: {config.name} cannot read pictures of {bins} rows and {config.frames} frames ({_told(error)}); "
        "make both (features.n_mels, model.frames) multiples of 32 and 96 or more, or name another network"
    )


def _told(error: Exception) -> str:
    """Its kind and its first line."""
    return "".join([type(error).__name__, *(f": {line}" for line in str(error).splitlines()[:1])])
