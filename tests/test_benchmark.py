"""The benchmark's sums and its report; how long anything takes is not asserted."""

import json
import sys
from argparse import Namespace

import pytest
import torch

from benchmarks import memory, page, peers, trace
from benchmarks.bench import benchmark, choose
from benchmarks.given import give
from benchmarks.report import TARGETS, Row, as_json, judge, ratios, shares
from benchmarks.stages import stages
from benchmarks.timing import Timing, Work, measure, summary
from benchmarks.training import PARTS, training_stages
from serx.errors import ConfigError, DataError


def row(name: str, **seconds: float) -> Row:
    timings = {tool: Timing(s, s, s, 64) for tool, s in seconds.items()}
    return Row(name, "features", "in words", timings, {})


@pytest.fixture
def few(tiny_root):
    return give(str(tiny_root), 3, 0.5, torch.device("cpu"))


@pytest.fixture
def tiny_path(tiny_config, tmp_path) -> str:
    """The path of the tiny configuration, which the fixture writes."""
    return str(tmp_path / "tiny.yaml")


def arguments(tmp_path, **given) -> Namespace:
    plain = {
        "root": None,
        "clips": 2,
        "seconds": 0.3,
        "threads": 1,
        "device": "cpu",
        "clock": "wall",
        "only": ["logmel"],
    }
    more = {"rounds": 1, "config": "configs/cnn2d.yaml", "out": str(tmp_path / "speed"), "profile": None}
    return Namespace(**{**plain, **more, **given})


def test_a_ratio_is_the_others_time_over_serxs():
    assert ratios(row("logmel", serx=0.002, librosa=0.007, nnAudio=0.001).timings) == {"librosa": 3.5, "nnAudio": 0.5}


def test_the_middle_of_three_rounds_counts():
    assert summary([3.0, 1.0, 10.0], 64) == Timing(3.0, 1.0, 10.0, 64)


def test_tools_take_turns_and_the_warm_up_does_not_count(monkeypatch):
    order, clock = [], iter([0.0, 90.0, 0.0, 90.0, *[0.0, 6.0, 0.0, 8.0] * 2])
    monkeypatch.setitem(sys.modules["benchmarks.timing"].CLOCKS, "wall", lambda: next(clock))
    works = {tool: Work(lambda told, tool=tool: order.append((tool, told)), 2, lambda: (7,)) for tool in ("serx", "b")}
    timings, failed = measure(works, rounds=2, clock="wall")
    assert order == [("serx", 7), ("b", 7)] * 3
    assert timings == {"serx": Timing(3.0, 3.0, 3.0, 2), "b": Timing(4.0, 4.0, 4.0, 2)} and not failed


def test_a_tool_that_breaks_down_is_named_and_the_others_go_on():
    def breaks() -> None:
        raise ValueError("no such thing\nand more")

    timings, failed = measure({"serx": Work(lambda: None, 1), "b": Work(breaks, 1)}, rounds=1, clock="wall")
    assert failed == {"b": "ValueError: no such thing"} and timings.keys() == {"serx"}
    with pytest.raises(ValueError, match="no such thing"):
        measure({"serx": Work(breaks, 1)}, rounds=1, clock="wall")


def test_targets_are_met_missed_or_not_measured():
    rows = [row("logmel", serx=0.001, librosa=0.0031, torchaudio=0.0014)]
    memory = {"chain_waveform": {"batch": 499.0, "process": 900.0}}
    judged = {(t["stage"], t["peer"]): (t["measured"], t["met"]) for t in judge(rows, memory, "cpu", 64)}
    assert judged[("logmel", "librosa")] == (pytest.approx(3.1), True)
    assert judged[("logmel", "torchaudio")] == (pytest.approx(1.4), False)
    assert judged[("mfcc", "librosa")] == (None, None)
    assert judged[("chain_waveform", None)] == (499.0, True)
    assert len(judged) == sum(target.device == "cpu" for target in TARGETS)


def test_a_gpus_targets_are_milliseconds_of_a_batch_and_clips_a_second():
    rows = [row("recipe_front", serx=2e-3 / 256), row("step", serx=1 / 19_000)]
    judged = {t["stage"]: (t["measured"], t["met"]) for t in judge(rows, {}, "cuda", 256)}
    assert judged["recipe_front"] == (pytest.approx(2.0), True)
    assert judged["step"] == (pytest.approx(19_000), False)


def test_the_parts_of_a_step_and_the_rest_are_all_of_it():
    rows = [row(part, serx=0.001) for part in PARTS]
    assert shares(rows, PARTS) == {}
    found = shares([*rows, row("step", serx=0.010)], PARTS)
    assert found["forward"] == pytest.approx(0.1) and found["rest"] == pytest.approx(0.5)
    assert sum(found.values()) == pytest.approx(1)


def test_every_target_is_a_stage_and_a_peer_there_is(tiny_path):
    names = {stage.name for stage in [*stages(), *training_stages(tiny_path)]}
    assert {target.stage for target in TARGETS} <= names and set(PARTS) <= names
    assert {target.peer for target in TARGETS} <= {None, *peers.PEERS}


def test_every_stage_does_its_work(few, tiny_path):
    for stage in [*stages(), *training_stages(tiny_path)]:
        work = stage.work(few)
        work.run(*work.before())
        assert work.clips >= few.count, stage.name


def test_clips_have_the_length_asked_for_and_their_own_ratios(few, tmp_path):
    assert few.waves.shape == (3, 8000) and len(set(map(str, few.paths))) == 3
    assert torch.equal(few.waveform, torch.from_numpy(few.waves)) and few.lengths.tolist() == [8000] * 3
    assert len(set(few.semitones)) == 3 and (abs(few.semitones) <= 2).all()
    with pytest.raises(DataError, match="holds no audio"):
        give(str(tmp_path), 3, 0.5, torch.device("cpu"))


def test_the_log_mels_librosa_is_timed_at_are_those_of_serx(few):
    from benchmarks.librosa_works import log_mel
    from serx.features.stack import FeaturesConfig, FeatureStack

    librosa = pytest.importorskip("librosa")
    ours = FeatureStack(FeaturesConfig(), 16_000)(few.waveform, few.lengths)[0]
    for wave, mine in zip(few.waves, ours, strict=True):
        torch.testing.assert_close(torch.from_numpy(log_mel(librosa, wave)), mine, rtol=0, atol=1e-3)


def test_absent_libraries_are_named_with_what_to_install(few, monkeypatch):
    monkeypatch.setitem(sys.modules, "audiomentations", None)
    monkeypatch.setitem(sys.modules, "python_stretch.Signalsmith", None)
    found, absent = peers.peer_works(few)
    assert "audiomentations" not in found and {"torchaudio", "nnAudio"} <= found.keys()
    assert "pip install audiomentations" in absent["audiomentations"]
    assert "pip install python-stretch" in absent["Signalsmith"]
    metadata = dict.fromkeys(["machine", "command", "date", "device", "threads", "cores", "clock", "clips"], 1)
    metadata |= {"seconds": 3.0, "source": "", "rounds": 7, "config": "", "versions": {"torch": "2.14"}}
    extra = {"targets": [], "shares": {}, "memory": {}, "absent": absent}
    told = page.page(as_json(metadata, [row("logmel", serx=0.002, librosa=0.006)], extra))
    assert "- audiomentations is absent: " in told and "- Signalsmith is absent: " in told
    assert "| `logmel` | in words | 500 | 2.000 | 6.000 (3.0x) |" in told


def test_a_small_run_writes_both_files_with_what_was_asked_for(tiny_root, tmp_path, monkeypatch):
    for library in ("librosa", "audiomentations", "torch_audiomentations", "torch_time_stretch", "python_stretch"):
        monkeypatch.setitem(sys.modules, library, None)
    written, path = benchmark(arguments(tmp_path, root=str(tiny_root)), "python scripts/benchmark.py --only logmel")
    report = json.loads(path.read_text())
    assert list(report["stages"]) == ["logmel"]
    logmel = report["stages"]["logmel"]
    assert logmel["tools"].keys() == {"serx", "torchaudio", "nnAudio"}
    for tool, ratio in logmel["ratios"].items():
        assert ratio == pytest.approx(logmel["tools"][tool]["ms_per_clip"] / logmel["tools"]["serx"]["ms_per_clip"])
    assert report["absent"].keys() == peers.PEERS.keys() - {"torchaudio", "nnAudio"}
    assert {
        "command",
        "date",
        "machine",
        "device",
        "threads",
        "versions",
        "clips",
        "seconds",
        "source",
    } <= report.keys()
    text = written.read_text()
    assert "`python scripts/benchmark.py --only logmel`" in text and "| `logmel` |" in text
    assert "librosa is absent" in text and f"torch {report['versions']['torch']}" in text


def test_an_unknown_stage_is_refused_by_name():
    with pytest.raises(ConfigError, match="--only logmell: no such stage or group; known are .*logmel"):
        choose(stages(), ["logmell"])
    assert [stage.name for stage in choose(stages(), ["input"])] == ["decode", "pack", "gather"]


def test_a_trace_is_written_for_tensorboard_and_perfetto(tmp_path):
    trace.record(Work(lambda: torch.rand(100, 100) @ torch.rand(100, 100), 1), tmp_path, "cpu")
    (file,) = tmp_path.glob("*.pt.trace.json")
    assert any(event.get("name") == "aten::mm" for event in json.loads(file.read_text())["traceEvents"])
    assert list(tmp_path.glob("events.out.tfevents*"))


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(tiny_root, tiny_path):
    peak = memory.peak_megabytes("logmel", str(tiny_root), 4, 0.5, tiny_path)
    assert peak is None or 0 <= peak["batch"] < peak["process"]
