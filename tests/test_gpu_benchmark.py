"""`make gpu`: what it counts, its page, and what it says without a GPU. No test asserts how long anything takes."""

import importlib.util
import re
from argparse import Namespace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import gpu
from benchmarks.gpu import Peaks, Row, Work, WorkCounter
from benchmarks.inputs import load_inputs

ROOT = Path(__file__).parents[1]


def counted(run) -> Work:
    with WorkCounter() as counter:
        run()
    return counter.work


def test_a_matrix_product_reads_both_matrices_and_writes_one():
    a, b = torch.ones(4, 8), torch.ones(8, 2)
    assert counted(lambda: a @ b).parts == [(4 * (32 + 16 + 8), 2 * 4 * 2 * 8, torch.float32)]


def test_a_convolution_counts_two_operations_for_each_weight_and_position():
    x, kernel = torch.ones(3, 5, 20, 30), torch.ones(7, 5, 3, 3)
    (part,) = counted(lambda: F.conv2d(x, kernel, padding=1)).parts
    assert part == (4 * (x.numel() + kernel.numel() + 3 * 7 * 600), 2 * 3 * 7 * 600 * 5 * 9, torch.float32)


def test_views_and_empty_tensors_are_no_work_and_an_expanded_tensor_is_read_once():
    x = torch.ones(100)
    assert counted(lambda: (x[3:], x.view(10, 10).T, torch.empty(9), x.expand(50, 100))).kernels == 0
    wide = x.expand(50, 100)
    assert counted(lambda: wide + wide).parts == [(4 * (100 + 5000), 5000.0, torch.float32)]


def test_a_gather_reads_what_it_takes():
    table, rows = torch.ones(10_000, 8), torch.tensor([5, 7])
    work = counted(lambda: table.index_select(0, rows))
    assert (work.bytes, work.operations) == (4 * 16 + 8 * 2 + 4 * 16, 16)


def test_windows_that_overlap_are_read_once():
    windows = torch.ones(1000).unfold(0, 400, 1)
    assert counted(windows.sum).parts == [(4 * 1000 + 4, 1000.0, torch.float32)]


def test_a_fourier_transform_counts_five_halves_n_log_n():
    x = torch.ones(6, 1024)
    assert counted(lambda: torch.fft.rfft(x)).operations == 2.5 * 6 * 1024 * 10


def test_the_backward_pass_is_counted():
    weight = torch.ones(8, 2, requires_grad=True)
    product = (torch.ones(4, 8) @ weight).sum()
    assert max(operations for _, operations, _ in counted(product.backward).parts) == 2 * 4 * 2 * 8


def test_the_floor_is_the_longer_of_moving_and_computing_for_each_operation():
    work = Work([(100, 1.0, torch.float32), (10, 400.0, torch.float32), (10, 400.0, torch.bfloat16)])
    peaks = Peaks(10.0, {torch.float32: 20.0, torch.bfloat16: 80.0})
    assert work.floor(peaks) == 10 + 20 + 5
    assert (work.kernels, work.bytes, work.operations) == (3, 120, 801.0)


def script():
    specification = importlib.util.spec_from_file_location("gpu_script", ROOT / "scripts" / "gpu.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def arguments(tmp_path, **changed) -> Namespace:
    given = {"device": "cuda", "batches": [2], "precisions": ["fp32"], "modes": ["eager"], "seconds": 0.3,
             "clock": "wall", "root": None, "rounds": 1, "copy_megabytes": 1, "matrix_size": 32,
             "config": str(tmp_path / "tiny.yaml"), "out": str(tmp_path / "out"), "tests": False}  # fmt: skip
    return Namespace(**{**given, **changed})


def test_without_a_gpu_it_says_so_in_one_line_and_the_page_has_no_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script().main(arguments(tmp_path)) == 0
    assert capsys.readouterr().out.count("\n") == 1
    page = tmp_path / "out" / "gpu.md"
    assert page.read_text() == gpu.NOT_MEASURED
    assert not re.search(r"\d", gpu.NOT_MEASURED)
    page.write_text("measured elsewhere")
    assert script().main(arguments(tmp_path)) == 0
    assert page.read_text() == "measured elsewhere"


def test_the_page_in_the_repository_is_either_measured_or_says_that_nothing_was():
    text = (ROOT / "benchmarks" / "gpu.md").read_text()
    assert text == gpu.NOT_MEASURED or re.match(r"# Speed on \S", text)


@pytest.mark.slow
def test_the_same_script_measures_a_cpu(tmp_path, tiny_root, tiny_config):
    tiny_config()  # writes tiny.yaml
    assert script().main(arguments(tmp_path, device="cpu", root=str(tiny_root))) == 0
    text = (tmp_path / "out" / "gpu.md").read_text()
    assert "| clips in a batch | fp32, eager |" in text
    stages = re.findall(r"^\| 2 \| (\w+) \| (\w+) \| [\d.]+ \| ([\d.]+) \| \d+ % \| (\d+) \|", text, re.MULTILINE)
    assert [(precision, stage) for precision, stage, *_ in stages] == [
        ("fp32", stage) for stage in (*gpu.FRONT, *gpu.NETWORK)
    ]
    kernels = {(precision, stage): int(count) for precision, stage, _, count in stages}
    parts = sum(kernels["fp32", stage] for stage in (*gpu.FRONT, "forward", "backward"))
    assert kernels["fp32", "step"] > parts > kernels["fp32", "augmentation"] > 0


def test_a_batch_that_does_not_fit_into_memory_is_reported_and_the_others_are_measured(
    tiny_config, tmp_path, tiny_root
):
    tiny_config()

    def inputs_of(clips):
        return load_inputs(str(tiny_root), clips, 0.3, torch.device("cpu"))

    def fail(self, *_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.training.BenchmarkRun.train", fail)
        rows = gpu.measure_all(str(tmp_path / "tiny.yaml"), inputs_of, [2], ["fp32"], ["eager"], 1, "wall")
    assert rows[-1] == Row("step", 2, "fp32", "eager", None, None)
    text = gpu.page(rows, Peaks(1e9, dict.fromkeys(gpu.FORMATS.values(), 1e9)), ["# Speed on X"])
    assert "| 2 | out of memory |" in text
