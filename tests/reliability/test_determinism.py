"""Deterministic mode: no recipe uses an operation that is random on CUDA, and two runs write the same bytes."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from serx.config.loader import load_config
from serx.data.dataset import load_dataset, split_dataset
from serx.dsp import descriptors, pitch
from serx.dsp.batching import sum_by_product
from serx.training.run_folder import BEST, LAST
from serx.training.trainer import fit

pytestmark = pytest.mark.slow
CONFIGS = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))

# What torch.use_deterministic_algorithms(True) refuses on CUDA (its documentation, torch 2.11 to 2.14), as ATen names.
DENIED = (
    "adaptive_avg_pool2d_backward", "adaptive_avg_pool3d_backward", "adaptive_max_pool2d_backward",
    "avg_pool3d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward",
    "grid_sampler_2d_backward", "grid_sampler_3d_backward", "histc", "kthvalue", "max_pool3d_with_indices_backward",
    "max_unpool2d", "max_unpool3d", "nll_loss2d_forward", "nll_loss2d_backward", "put_", "cumsum", "cumsum_",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "replication_pad1d_backward", "replication_pad2d_backward", "replication_pad3d_backward",
    "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward", "upsample_nearest1d_backward", "upsample_nearest2d_backward",
    "upsample_nearest3d_backward", "embedding_bag_backward", "_ctc_loss_backward", "bincount", "resize_",
)  # fmt: skip


class Watch(TorchDispatchMode):
    """Counts the denied operations; `cumsum` and `bincount` only where they are nondeterministic."""

    def __init__(self) -> None:
        super().__init__()
        self.denied: Counter[str] = Counter()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.lstrip("_")
        self.calls += 1
        if name in DENIED or f"_{name}" in DENIED:
            integers = name.startswith("cumsum") and not args[0].is_floating_point()
            unweighted = name == "bincount" and len(args) < 2
            if not (integers or unweighted):
                self.denied[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _leave_deterministic_mode():
    yield
    torch.use_deterministic_algorithms(False)


def tiny(path: Path, tiny_root: Path, *more: str):
    narrow = (
        ["model.widths=[8, 8, 8, 8, 8]"] if path.stem == "three_corpora_cnn1d" else []
    )  # 7 M parameters take minutes
    return load_config(path, [f"data.root={tiny_root}", "data.protocol=speakers", "data.fold=0",
                              "data.test_speakers=[5, 6]", "data.valid_speakers=[3, 4]", "train.epochs=1",
                              "train.batch_size=4", "train.device=cpu", "train.threads=1", "train.deterministic=true",
                              "data.offset_seconds=0", "data.test_corpora=[]", *narrow, *more])  # fmt: skip


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_trains_without_a_nondeterministic_operation(path, tiny_root, tmp_path, monkeypatch, encoder_folder):
    for module in (pitch, descriptors):
        monkeypatch.setattr(module, "running_sum", sum_by_product)  # as on a GPU
    without_network = {
        "encoder_cross_corpus": [f"model.source={encoder_folder('whisper')}", "data.protocol=speakers"],
        "timm_pretrained": ["model.pretrained=false"],
        "encoder_probe": [f"model.source={encoder_folder('whisper')}"],
        "encoder_lora": [f"model.source={encoder_folder('whisper')}"],
        "encoder_tuned": [f"model.source={encoder_folder('whisper')}"],
    }
    config = tiny(path, tiny_root, *without_network.get(path.stem, []))
    split_dataset(
        load_dataset(config.data, progress=False), config.data, progress=False
    )  # fills the audio cache before the count
    with Watch() as watch:
        fit(config, tmp_path / "run", progress=False)
    assert torch.are_deterministic_algorithms_enabled()
    assert watch.calls > 1000
    assert not watch.denied


def test_nondeterministic_operations_are_counted():
    with Watch() as watch:
        x = torch.randn(1, 2, 8, requires_grad=True)
        torch.nn.functional.interpolate(x, scale_factor=2.0, mode="linear").sum().backward()
        torch.nn.functional.pad(x, (1, 1), mode="reflect").sum().backward()
        torch.nn.functional.adaptive_avg_pool2d(x[None], (2, 2)).sum().backward()
        torch.randn(3).cumsum(0)
        torch.arange(3).cumsum(0)
    assert watch.denied == {
        "upsample_linear1d_backward": 1, "reflection_pad1d_backward": 1, "adaptive_avg_pool2d_backward": 1, "cumsum": 1,
    }  # fmt: skip


def test_two_runs_on_a_cpu_write_the_same_bytes(tiny_root, tmp_path):
    config = tiny(next(path for path in CONFIGS if path.stem == "demo"), tiny_root)
    for name in ("a", "b"):
        fit(config, tmp_path / name, progress=False)
    for name in (LAST, BEST):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
