"""The benchmark: its arithmetic and its report. No test asserts how long anything takes."""

import json
import sys
from argparse import Namespace

import numpy as np
import pytest
import torch

from benchmarks import clip_libraries, libraries, memory, page, timing
from benchmarks.bench import benchmark, choose
from benchmarks.inputs import ENCODINGS, load_inputs
from benchmarks.report import TARGETS, Row, as_json, judge, ratios
from benchmarks.stages import stages
from benchmarks.timing import PartTimer, Timing, Workload, measure, record_trace, summary
from benchmarks.training import REST, TrainingStages, shares, step_shares
from serx.errors import ConfigError, DataError


def row(name: str, **seconds: float) -> Row:
    timings = {library: Timing(s, s, s, 64) for library, s in seconds.items()}
    return Row(name, "features", "in words", timings, {})


@pytest.fixture
def inputs(tiny_root):
    return load_inputs(str(tiny_root), 3, 0.5, torch.device("cpu"))


@pytest.fixture
def tiny_path(tiny_config, tmp_path) -> str:
    """The path of the tiny configuration, which the fixture writes."""
    return str(tmp_path / "tiny.yaml")


def arguments(tmp_path, **changed) -> Namespace:
    defaults = {
        "root": None,
        "clips": 2,
        "seconds": 0.3,
        "threads": 1,
        "device": "cpu",
        "clock": "wall",
        "only": ["logmel"],
        "rounds": 1,
        "config": "configs/cnn2d.yaml",
        "out": str(tmp_path / "speed"),
        "profile": None,
    }
    return Namespace(**{**defaults, **changed})


def test_a_ratio_is_the_time_of_the_other_library_over_that_of_serx():
    assert ratios(row("logmel", serx=0.002, librosa=0.007, nnAudio=0.001).timings) == {"librosa": 3.5, "nnAudio": 0.5}


def test_the_median_of_the_rounds_counts():
    assert summary([3.0, 1.0, 10.0], 64) == Timing(3.0, 1.0, 10.0, 64)


def test_libraries_alternate_and_the_warm_up_does_not_count(monkeypatch):
    order, clock = [], iter([0.0, 90.0, 0.0, 90.0, *[0.0, 6.0, 0.0, 8.0] * 2])
    monkeypatch.setitem(timing.CLOCKS, "wall", lambda: next(clock))
    workloads = {
        name: Workload(lambda argument, name=name: order.append((name, argument)), 2, lambda: (7,))
        for name in ("serx", "b")
    }
    timings, failed = measure(workloads, rounds=2, clock="wall")
    assert order == [("serx", 7), ("b", 7)] * 3
    assert timings == {"serx": Timing(3.0, 3.0, 3.0, 2), "b": Timing(4.0, 4.0, 4.0, 2)} and not failed


def test_a_library_that_fails_is_reported_and_the_others_continue():
    def fail() -> None:
        raise ValueError("no such thing\nand more")

    timings, failed = measure({"serx": Workload(lambda: None, 1), "b": Workload(fail, 1)}, rounds=1, clock="wall")
    assert failed == {"b": "ValueError: no such thing"} and timings.keys() == {"serx"}
    with pytest.raises(ValueError, match="no such thing"):
        measure({"serx": Workload(fail, 1)}, rounds=1, clock="wall")


def test_targets_are_met_missed_or_not_measured():
    rows = [row("logmel", serx=0.001, librosa=0.0031, torchaudio=0.0014)]
    peaks = {"mfcc_two_passes": {"batch": 499.0, "process": 900.0}}
    judged = {(t["stage"], t["baseline"]): (t["measured"], t["met"]) for t in judge(rows, peaks, "cpu", 64)}
    assert judged[("logmel", "librosa")] == (pytest.approx(3.1), True)
    assert judged[("logmel", "torchaudio")] == (pytest.approx(1.4), False)
    assert judged[("mfcc", "librosa")] == (None, None)
    assert judged[("mfcc_two_passes", None)] == (499.0, True)
    assert len(judged) == sum(target.device == "cpu" for target in TARGETS)


def test_targets_of_a_gpu_are_milliseconds_per_batch_and_clips_per_second():
    rows = [row("recipe_front", serx=2e-3 / 256), row("step", serx=1 / 19_000)]
    judged = {t["stage"]: (t["measured"], t["met"]) for t in judge(rows, {}, "cuda", 256)}
    assert judged["recipe_front"] == (pytest.approx(2.0), True)
    assert judged["step"] == (pytest.approx(19_000), False)


def test_the_shares_of_a_step_and_the_rest_add_up_to_one():
    result = shares({"loss": 1.0, "network": 6.0}, 10.0)
    assert list(result) == ["network", "loss", REST]
    assert result == pytest.approx({"network": 0.6, "loss": 0.1, REST: 0.3})


def test_a_part_timer_adds_up_the_calls_of_each_part(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 11.0, 20.0, 23.0, 30.0, 31.0])
    monkeypatch.setitem(timing.CLOCKS, "wall", lambda: next(clock))
    timer = PartTimer("wall")
    double, half = timer.timed("double", lambda x: 2 * x), timer.timed("half", lambda x: x / 2)
    assert (double(3), half(4), double(x=5)) == (6, 2, 10)
    assert timer.seconds() == {"double": 5.0, "half": 1.0}
    timer.reset()
    half(1)
    assert timer.seconds() == {"half": 1.0}


def test_parts_of_real_training_steps_are_disjoint_and_add_up_to_the_whole(inputs, tiny_path):
    run = TrainingStages(tiny_path, ("train.ema_decay=0.9",)).run_on(inputs)
    before = [parameter.clone() for parameter in run.state.recognizer.parameters()]
    measured = step_shares(run, rounds=2, clock="wall")
    assert any(not torch.equal(a, b) for a, b in zip(before, run.state.recognizer.parameters(), strict=True))
    assert measured.keys() == {
        "batch from the audio cache",
        "waveform transforms",
        "features, normalized and masked",
        "mixtures of clips",
        "network, forward",
        "loss",
        "network, backward",
        "optimizer",
        "average of the weights",
        REST,
    }
    assert all(0 <= share <= 1 for share in measured.values())
    assert sum(measured.values()) == pytest.approx(1)


def test_the_functions_of_a_step_are_restored_after_it_was_measured(inputs, tiny_path):
    from serx.training import epoch

    functions = (epoch.augmented_waveform, epoch.mix, torch.Tensor.backward, torch.nn.utils.clip_grad_norm_)
    step_shares(TrainingStages(tiny_path).run_on(inputs), rounds=1, clock="wall")
    assert functions == (epoch.augmented_waveform, epoch.mix, torch.Tensor.backward, torch.nn.utils.clip_grad_norm_)


def test_every_target_names_a_stage_and_a_library(tiny_path):
    names = {stage.name for stage in [*stages(), *TrainingStages(tiny_path).stages()]}
    assert {target.stage for target in TARGETS} <= names
    assert {target.baseline for target in TARGETS} <= {None, *libraries.LIBRARIES}


def test_every_stage_runs(inputs, tiny_path):
    for stage in [*stages(), *TrainingStages(tiny_path).stages()]:
        workload = stage.workload(inputs)
        workload.run(*workload.before())
        assert workload.clips >= inputs.count, stage.name


def test_clips_have_the_requested_length_and_their_own_settings(inputs, tmp_path):
    assert inputs.waves.shape == (3, 8000) and len(set(map(str, inputs.paths))) == 3
    assert torch.equal(inputs.waveform, torch.from_numpy(inputs.waves)) and inputs.lengths.tolist() == [8000] * 3
    assert len(set(inputs.semitones)) == 3 and (abs(inputs.semitones) <= 2).all()
    with pytest.raises(DataError, match=str(tmp_path)):
        load_inputs(str(tmp_path), 3, 0.5, torch.device("cpu"))


def test_librosa_is_timed_on_the_log_mels_of_serx(inputs):
    from serx.features import FeaturesConfig, FeatureStack

    librosa = pytest.importorskip("librosa")
    ours = FeatureStack(FeaturesConfig(), 16_000)(inputs.waveform, inputs.lengths)[0]
    for wave, features in zip(inputs.waves, ours, strict=True):
        theirs = torch.from_numpy(clip_libraries.log_mel(librosa, wave))
        torch.testing.assert_close(theirs, features, rtol=0, atol=1e-3)


def test_every_library_decodes_the_same_clips(inputs):
    pytest.importorskip("librosa")
    workloads = {"serx": {stage.name: stage.workload(inputs) for stage in stages() if stage.group == "decoding"}}
    workloads |= libraries.installed(inputs)[0]
    for stage, (_, _, rate) in ENCODINGS.items():
        assert inputs.encoded(stage)[0] is inputs.encoded(stage)[0]
        decoded = {library: work[stage].run() for library, work in workloads.items() if stage in work}
        assert {"serx", "librosa", "soundfile"} <= decoded.keys() and ("torchaudio" in decoded) == (rate != 16_000)
        for clips in decoded.values():
            waveform = np.asarray(clips[0][0] if isinstance(clips[0], tuple) else clips[0])
            assert len(waveform) == inputs.waves.shape[1]
            assert np.corrcoef(waveform, inputs.waves[0])[0, 1] > 0.95


def test_libraries_that_are_not_installed_are_reported_with_their_package(inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    monkeypatch.setitem(sys.modules, "python_stretch.Signalsmith", None)
    workloads, absent = libraries.installed(inputs)
    assert "audiomentations" not in workloads and {"torchaudio", "nnAudio"} <= workloads.keys()
    assert "pip install audiomentations" in absent["audiomentations"]
    assert "pip install python-stretch" in absent["Signalsmith"]


def test_the_page_has_a_row_per_stage_the_shares_and_what_was_not_measured():
    metadata = dict.fromkeys(["machine", "command", "date", "device", "threads", "cores", "clock", "clips"], 1)
    metadata |= {"seconds": 3.0, "source": "", "rounds": 7, "config": "", "versions": {"torch": "2.14"}}
    extra = {"targets": [], "shares": {"loss": 0.25, REST: 0.75}, "memory": {}, "absent": {"b": "No module named b"}}
    text = page.page(as_json(metadata, [row("logmel", serx=0.002, librosa=0.006)], extra))
    assert "| `logmel` | in words | 500 | 2.000 | 6.000 (3.0x) |" in text
    assert "| loss | 25.0 % |\n| rest | 75.0 % |" in text
    assert "- b is not installed: No module named b" in text


def test_a_small_run_writes_the_page_and_the_json_file(tiny_root, tmp_path, monkeypatch):
    for library in ("librosa", "audiomentations", "torch_audiomentations", "torch_time_stretch", "python_stretch"):
        monkeypatch.setitem(sys.modules, library, None)
    page_path, path = benchmark(arguments(tmp_path, root=str(tiny_root)), "python scripts/benchmark.py --only logmel")
    report = json.loads(path.read_text())
    assert list(report["stages"]) == ["logmel"]
    logmel = report["stages"]["logmel"]
    assert logmel["libraries"].keys() == {"serx", "torchaudio", "nnAudio"}
    for library, ratio in logmel["ratios"].items():
        times = [logmel["libraries"][name]["ms_per_clip"] for name in (library, "serx")]
        assert ratio == pytest.approx(times[0] / times[1])
    assert report["absent"].keys() == libraries.LIBRARIES.keys() - {"torchaudio", "nnAudio", "NumPy", "soundfile"}
    conditions = {"command", "date", "machine", "device", "threads", "versions", "clips", "seconds", "source"}
    assert conditions <= report.keys()
    text = page_path.read_text()
    assert "`python scripts/benchmark.py --only logmel`" in text and "| `logmel` |" in text
    assert "librosa is not installed" in text and f"torch {report['versions']['torch']}" in text


def test_an_unknown_stage_is_named():
    with pytest.raises(ConfigError, match="--only logmell: unknown stage or group; known are .*logmel"):
        choose(stages(), ["logmell"])
    assert [stage.name for stage in choose(stages(), ["input"])] == ["decode", "audio_cache", "batch"]


def test_a_trace_is_written_for_tensorboard_and_perfetto(tmp_path):
    record_trace(Workload(lambda: torch.rand(100, 100) @ torch.rand(100, 100), 1), tmp_path, "cpu")
    (file,) = tmp_path.glob("*.pt.trace.json")
    assert any(event.get("name") == "aten::mm" for event in json.loads(file.read_text())["traceEvents"])
    assert list(tmp_path.glob("events.out.tfevents*"))


@pytest.mark.slow
def test_memory_is_measured_in_a_separate_process(tiny_root, tiny_path):
    peak = memory.peak_megabytes("logmel", str(tiny_root), 4, 0.5, tiny_path)
    assert peak is None or 0 <= peak["batch"] < peak["process"]
