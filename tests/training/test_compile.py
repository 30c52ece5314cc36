"""`train.compile`: the same losses, and nothing is compiled again once batches of other sizes have been seen."""

import json

import pytest
import torch

from serx.device import compiled
from serx.training.run_folder import METRICS
from serx.training.trainer import fit


@pytest.mark.slow
def test_a_compiled_network_trains_alike_and_is_not_compiled_again_after_the_first_epoch(
    tiny_config, tmp_path, monkeypatch
):
    graphs: list[int] = []

    def count(graph, inputs):
        metrics = tmp_path / "compiled" / METRICS
        graphs.append(len(metrics.read_text().splitlines()))  # epochs done
        return graph.forward

    def compile_and_count(function, **_):
        return original(function, backend=count)

    torch._dynamo.reset()
    original = torch.compile
    monkeypatch.setattr(torch, "compile", compile_and_count)
    sizes = ["train.batch_size=5", "train.epochs=3"]  # 24 clips: batches of four and of five, of several lengths
    fit(tiny_config(*sizes), tmp_path / "eager", progress=False)
    fit(tiny_config(*sizes, "train.compile=true"), tmp_path / "compiled", progress=False)
    assert 1 <= len(graphs) <= 4
    assert set(graphs) == {0}
    losses = [
        [json.loads(line)["train"]["loss"] for line in (tmp_path / name / METRICS).read_text().splitlines()]
        for name in ("eager", "compiled")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_cuda_graphs_are_recorded_for_each_size(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: asked.append(options) or function)
    compiled(torch.relu, "reduce-overhead")
    compiled(torch.relu, True)
    assert asked == [{"mode": "reduce-overhead", "dynamic": False}, {}]
    assert torch._inductor.config.fallback_random
