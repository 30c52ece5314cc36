"""Out of memory is one line and exit code 2, and a size that is known is refused before anything is allocated."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from serx import errors
from serx.cli.main import main
from serx.config import load_config
from serx.data.dataset import load_dataset
from serx.evaluation import evaluate
from serx.inference import Predictor
from serx.models import Cnn2dConfig, MlpConfig, build_model, model_kinds
from serx.models.backbone import backbone_bytes
from serx.training import fit, memory
from serx.training.memory import activation_bytes, spectrum_bytes


def raised(action):
    """The error that an action raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of many classes
        action()
    return caught.value


REAL = {
    "torch, a CPU": lambda: torch.empty(1 << 55, dtype=torch.float32),
    "torch, a size beyond 64 bits": lambda: torch.empty(1 << 40, 1 << 40),
    "torch, bytes beyond 64 bits": lambda: torch.empty((1 << 62) + 1, dtype=torch.float64),
    "NumPy": lambda: np.empty(1 << 55),
    "NumPy, a size beyond 64 bits": lambda: np.empty((1 << 40, 1 << 40)),
    "Python": lambda: bytearray(1 << 60),
    "Python, a size beyond 64 bits": lambda: bytearray(1 << 70),
    "torch, an integer beyond 64 bits": lambda: torch.empty(1 << 70),
}


@pytest.mark.parametrize("name", REAL)
def test_every_way_to_run_out_of_memory_is_recognized(name):
    error = raised(REAL[name])
    assert errors.is_out_of_memory(error), repr(error)
    explained = errors.out_of_memory(error, "lower it")
    assert "\n" not in str(explained) and explained.exit_code == 2 and isinstance(explained, errors.ConfigError)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("x"), KeyError("y"), OSError(2, "absent"),
                                   errors.DataError("out of memory is the name of this file")])  # fmt: skip
def test_other_errors_are_not_taken_for_it(error):
    assert not errors.is_out_of_memory(error)


def test_weights_larger_than_the_memory_are_refused_before_they_are_allocated(monkeypatch):
    config = Cnn2dConfig(widths=(8192,) * 8, strides=((1, 1),) * 8, ensemble_size=16)
    assert backbone_bytes(config, bins=64, classes=8) > 1e11
    with pytest.raises(errors.OutOfMemoryError, match=r"this cnn2d takes \d+.\d GB, and there are .* lower its widths"):
        build_model(config, bins=64, classes=8)
    monkeypatch.setattr("serx.models.backbone.memory_bytes", lambda: None)  # where the system does not say
    build_model(MlpConfig(), bins=4, classes=2)


@pytest.mark.parametrize("kind", ["cnn1d", "cnn2d", "mlp", "sequential", "classical"])
def test_the_bytes_of_the_weights_are_those_of_the_network(kind):
    config = model_kinds()[kind].config()
    state = torch.get_rng_state()
    counted = backbone_bytes(config, bins=40, classes=5)
    assert torch.equal(state, torch.get_rng_state())
    assert counted == sum(t.numel() * t.element_size() for t in build_model(config, 40, 5).state_dict().values())


def test_activations_are_counted_as_autograd_keeps_them():
    config = load_config("cnn2d", "train.precision=fp32", "model.ensemble_size=1", "model.shared_stages=0")
    kept = {}

    def count(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    backbone = build_model(config.model, config.features.bins, 8).train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        loss = backbone.member_logits(torch.randn(4, 64, 63), torch.full((4,), 63)).sum()
        real = sum(kept.values())
        del loss
    counted = activation_bytes(config, 8, clips=4, samples=62 * 256)
    assert real == pytest.approx(counted, rel=0.1)
    assert activation_bytes(config, 8, clips=8, samples=62 * 256) > 1.8 * counted - 2e6  # the weights count once
    assert spectrum_bytes(config, 2, 62 * 256) == 16 * 2 * 63 * 513


@pytest.mark.parametrize(
    ("override", "available", "largest", "remedy"),
    [
        ("model.widths=[512, 512]", 3 << 20, "the weights of the model", "lower the widths"),
        ("features.hop_length=1", 3 << 20, "the spectra of a few clips", "raise features.hop_length"),
        ("train.batch_size=64", 100_000, "the activations of a batch", "lower train.batch_size"),
    ],
)
def test_a_run_that_cannot_fit_is_refused_before_its_first_step(
    override, available, largest, remedy, tiny_config, tmp_path, monkeypatch
):
    monkeypatch.setattr(memory, "memory_bytes", lambda: available)
    more = ["features.n_fft=1024"] if "hop" in override else []
    with pytest.raises(errors.OutOfMemoryError, match=f"cpu: out of memory: {largest} would take .*{remedy}"):
        fit(tiny_config(override, *more), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "last.safetensors").exists()


FULL = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 512000000000 bytes. Error code 12 (Cannot allocate memory)"
)


def full(*_, **__):
    raise FULL


@pytest.mark.parametrize(
    ("broken", "use"),
    [
        ("serx.data.dataset.scan_once", lambda best, config: load_dataset(config.data)),
        ("serx.training.trainer.load_dataset", lambda best, config: fit(config, best.parent / "new", progress=False)),
        ("serx.training.trainer.new_state", lambda best, config: fit(config, best.parent / "new", progress=False)),
        ("serx.evaluation.held_out.load_dataset", lambda best, config: evaluate(best, progress=False)),
        ("serx.evaluation.evaluate_checkpoint.predict_clips", lambda best, config: evaluate(best, progress=False)),
        ("serx.checkpoint.file.read_tensor", lambda best, config: Predictor.load(best, "cpu")),
        (
            "serx.inference.predictor._padded",
            lambda best, config: Predictor.load(best, "cpu")(np.sin(np.arange(16_000)), 16_000),
        ),
    ],
)
def test_from_python_it_is_a_serx_error_everywhere(broken, use, trained, tiny_config, monkeypatch):
    best, config = trained(), tiny_config()
    monkeypatch.setattr(broken, full)
    with pytest.raises(errors.OutOfMemoryError) as caught:
        use(best, config)
    assert "\n" not in str(caught.value) and "out of memory" in str(caught.value)


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "cross-validate", "export", "stress"])
def test_a_command_prints_one_line_and_exits_with_2(verb, capsys, monkeypatch):
    module = SimpleNamespace(
        __doc__="A verb.", EXAMPLES="", add_arguments=lambda parser: None, main=lambda arguments: full()
    )
    monkeypatch.setattr("serx.cli.verbs._module", lambda name: module)
    with pytest.raises(SystemExit) as exit_:
        main(verb, [])
    printed = capsys.readouterr().err
    assert exit_.value.code == 2 and printed.count("\n") == 1
    assert printed.startswith("error: out of memory: 512000000000 bytes were asked for at once; ")
