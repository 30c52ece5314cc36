"""GRUs as ONNX's own operation: torch would unroll their loop over the frames of the one clip that it exports with."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn


@contextmanager
def as_onnx(model: nn.Module) -> Iterator[None]:
    """Within, every `nn.GRU(batch_first=True)` of one layer and one direction is exported as an ONNX GRU."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.GRU)]
    for layer in layers:
        layer.forward = partial(_symbol, layer)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # back to the class's own


def _symbol(layer: nn.GRU, x: Tensor) -> tuple[Tensor, None]:
    """`x (B, N, C)` -> `(B, N, units)`."""
    inputs, hidden, bias_in, bias_hidden = (
        _gates_of_onnx(getattr(layer, f"{name}_l0")) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    directions = torch.onnx.ops.symbolic(
        "::GRU",
        (x.transpose(0, 1), inputs[None], hidden[None], torch.cat([bias_in, bias_hidden])[None]),
        {"hidden_size": layer.hidden_size, "linear_before_reset": 1},
        dtype=x.dtype,
        shape=(x.shape[1], 1, x.shape[0], layer.hidden_size),
    )  # (N, 1, B, units)
    return directions[:, 0].transpose(0, 1), None


def _gates_of_onnx(weights: Tensor) -> Tensor:
    """torch has reset, update, new one behind the other; ONNX update, reset, new."""
    reset, update, new = weights.chunk(3)
    return torch.cat([update, reset, new])
