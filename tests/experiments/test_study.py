"""The study of a sweep: parts run once, a killed process's part is continued, bad settings end early."""

import os
import signal
import socket
import time
from dataclasses import replace

import numpy as np
import pytest

from serx.errors import ConfigError, DataError, DivergedError, RunInUseError
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import Predictions
from serx.experiments.fold_runs import Workers
from serx.experiments.parts import GONE_SECONDS, PARTS, is_locked, lock_part
from serx.experiments.space import Choice, Range, parse_space
from serx.experiments.study import SweepStudy
from serx.experiments.sweep import sweep
from serx.experiments.sweep_part import pooled_score, run_part, speaker_scores
from serx.experiments.sweep_plan import plan_sweep

LR = (Choice("optim.lr", ("0.001", "0.01")),)


def make_study(folder, prune=(), space=LR, method="grid", storage="journal", name="a study") -> SweepStudy:
    where = f"sqlite:///{folder}/study.db" if storage == "database" else str(folder / "study.journal")
    return SweepStudy(where, name, method, space, prune)


@pytest.fixture
def plan(tiny_config, tmp_path):
    tiny_config()
    return plan_sweep(tmp_path / "tiny.yaml", [], ["optim.lr=[1e-4, 3e-4, 1e-3, 5e-3, 2e-2]"], tmp_path / "out")


def in_a_child(action) -> int:
    """Forks a process that calls `action`; returns its id."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_four_workers_share_a_journal_and_the_part_of_a_killed_one_is_continued(plan, monkeypatch):
    ran = plan.out / "ran"

    def train(plan, setting, attempt, killed=False):
        with ran.open("a") as file:
            file.write(f"{setting.name} {os.getpid()}\n")
        if killed and setting.overrides:
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        attempt.complete(0.5)

    def work(killed):
        monkeypatch.setattr(
            "serx.experiments.sweep_part._run_setting", lambda *arguments: train(*arguments, killed=killed)
        )
        for part in range(plan.parts):
            try:
                run_part(plan, part)
            except RunInUseError:
                continue

    plan.study()
    children = [in_a_child(lambda: work(True))]
    while not (ran.exists() and "optim.lr" in ran.read_text()):
        time.sleep(0.01)
    children += [in_a_child(lambda: work(False)) for _ in range(3)]
    codes = [os.waitpid(child, 0)[1] for child in children]
    assert os.WTERMSIG(codes[0]) == signal.SIGKILL and not any(codes[1:])
    work(False)  # whatever was left
    parts = plan.study().parts()
    assert {trial.state for trial in parts.values()} == {"complete"} and sorted(parts) == list(range(5))
    assert len({trial.number for trial in parts.values()}) == 5
    lines = [line.rpartition(" ") for line in ran.read_text().splitlines()]
    names = [name for name, _, _ in lines]
    lost = {name for name, _, process in lines if process == str(children[0]) and name != "as it is"}
    assert len(lost) == 1  # begun by the killed worker, and by another one afterwards
    assert sorted(names) == sorted([*(setting.name for setting in plan.settings), *lost])


def test_a_sweep_starts_the_part_of_a_killed_process_again_and_leaves_alone_what_others_run(plan, monkeypatch, capsys):
    monkeypatch.setattr("serx.experiments.sweep_part._run_setting", lambda p, s, attempt: attempt.complete(0.5))
    started = []

    def run_here(jobs, slots, threads, on_end):
        for job in jobs:
            part, code = int(job.name), -9
            started.append(part)
            job.log.write_text("error: part 3 in use")
            if started.count(2) == 1 and part == 2:
                with lock_part(plan.out, "2"):
                    plan.study().claim(2)
            else:
                try:
                    code = run_part(plan, part)
                except RunInUseError:
                    code = 3
            on_end(job, code, 1.0)

    monkeypatch.setattr("serx.experiments.fold_runs.run_in_parallel", run_here)
    with lock_part(plan.out, "3"):
        _, code = sweep(plan, Workers(), lambda part, device, threads: [])
    assert started == [0, 1, 2, 3, 4, 2] and code == 0
    assert "left by processes that were killed: part 2\n" in capsys.readouterr().out
    states = {part: trial.state for part, trial in plan.study().parts().items()}
    assert states == {0: "complete", 1: "complete", 2: "complete", 3: "waiting", 4: "complete"}


def test_a_finished_part_is_skipped_and_an_unknown_one_refused(plan, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(
        "serx.experiments.sweep_part._run_setting",
        lambda p, s, attempt: (trained.append(s.name), attempt.complete(0.5))[1],
    )
    assert run_part(plan, 2) == run_part(plan, 2) == 0
    assert trained == ["optim.lr=0.0003"] and "part 2: optim.lr=0.0003: done before" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--part 5: there are parts 0 to 4"):
        run_part(plan, 5)


def test_a_part_that_another_process_runs_is_refused_and_stays_running(plan, monkeypatch):
    monkeypatch.setattr("serx.experiments.sweep_part._run_setting", lambda p, s, attempt: attempt.complete(0.5))
    with lock_part(plan.out, "1"):
        with pytest.raises(RunInUseError, match=rf"part 1 in .*: process {os.getpid()} on .* runs it"):
            run_part(plan, 1)
        assert run_part(plan, 2) == 0
    assert run_part(plan, 1) == 0


def test_a_failed_part_is_recorded_and_tried_again(plan, monkeypatch, capsys):
    def diverge(plan, setting, attempt):
        raise DivergedError("no finite gradient")

    monkeypatch.setattr("serx.experiments.sweep_part._run_setting", diverge)
    assert run_part(plan, 1) == 4 and "error: optim.lr=0.0001: no finite gradient" in capsys.readouterr().out
    trial = plan.study().parts()[1]
    assert (trial.state, trial.exit_code, trial.error) == ("fail", 4, "no finite gradient")
    monkeypatch.setattr("serx.experiments.sweep_part._run_setting", lambda p, s, attempt: attempt.complete(0.25))
    assert run_part(plan, 1) == 0
    assert plan.study().parts()[1].value == 0.25 and plan.study().parts()[1].overrides == ("optim.lr=0.0001",)


def test_a_stopped_part_keeps_the_setting_that_the_sampler_chose(tmp_path):
    space = (Range("optim.lr", 1e-4, 1e-2, False, True), Range("train.epochs", 2, 9, True, False))
    study = make_study(tmp_path, space=space, method="tpe")
    study.enqueue({0: (), 1: None, 2: None})
    first = study.claim(1).overrides
    assert study.claim(2).overrides != first and study.claim(0).overrides == ()
    again = make_study(tmp_path, space=space, method="tpe").claim(1)
    assert again.overrides == first and [text.partition("=")[0] for text in first] == ["optim.lr", "train.epochs"]
    assert 1e-4 <= float(first[0].partition("=")[2]) <= 1e-2 and 2 <= int(first[1].partition("=")[2]) <= 9
    again.fail(DivergedError("no"))
    assert make_study(tmp_path, space=space, method="tpe").claim(1).overrides == first


@pytest.mark.parametrize("storage", ["journal", "database"])
def test_both_storages_hold_a_study_and_parts_are_added_once(storage, tmp_path):
    for _ in range(2):
        study = make_study(tmp_path, storage=storage)
        study.enqueue({0: (), 1: ("optim.lr=0.001",), 2: ("optim.lr=0.01",)})
    study.claim(2).complete(0.75)
    with pytest.raises(ConfigError, match="part 2 is not waiting"):
        study.claim(2)
    parts = make_study(tmp_path, storage=storage).parts()
    assert [(trial.state, trial.value) for _, trial in sorted(parts.items())] == [
        ("waiting", None), ("waiting", None), ("complete", 0.75),
    ]  # fmt: skip
    assert not make_study(tmp_path, storage=storage, name="another").parts()


def test_a_setting_that_is_worse_for_most_speakers_is_given_up_and_the_recipe_never(tmp_path):
    study = make_study(tmp_path, ("wilcoxon",))
    study.enqueue({0: (), 1: ("optim.lr=0.001",), 2: ("optim.lr=0.01",), 3: ()})
    good = study.claim(1)
    good.speakers({speaker: 0.9 + 0.01 * speaker for speaker in range(8)})
    good.complete(0.9)
    bad, recipe = study.claim(2), study.claim(0)
    for attempt in (bad, recipe):
        attempt.speakers({speaker: 0.3 + 0.02 * speaker for speaker in range(8)})
    assert bad.is_pruned and not recipe.is_pruned
    bad.prune()
    assert study.parts()[2].state == "pruned" and study.parts()[2].is_finished


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_run_is_compared_epoch_by_epoch_with_the_same_speakers_under_other_settings(pruner, tmp_path):
    study = make_study(tmp_path, (pruner,))
    study.enqueue({part: (f"optim.lr={value}",) for part, value in enumerate([0.001] * 8)})
    for part in range(7):
        attempt = study.claim(part)
        with attempt.run("group 0 seed 0", 10) as report:
            assert not any(report.epoch(epoch, 0.6 + 0.01 * epoch + 0.001 * part) for epoch in range(1, 4))
        attempt.complete(0.7)
    attempt = study.claim(7)
    with attempt.run("group 1 seed 0", 10) as report:  # nobody to compare with
        assert not any(report.epoch(epoch, 0.1) for epoch in range(1, 4))
    with attempt.run("group 0 seed 0", 10) as report:
        assert any(report.epoch(epoch, 0.1) for epoch in range(1, 4))
    assert attempt.is_pruned


def test_an_owner_on_another_machine_keeps_its_part_while_it_touches_its_file(tmp_path):
    owner = tmp_path / PARTS / "3.owner"
    owner.parent.mkdir()
    owner.write_text("77 on elsewhere")
    with pytest.raises(RunInUseError, match="process 77 on elsewhere runs it"), lock_part(tmp_path, "3"):
        pass
    assert is_locked(tmp_path, "3")
    long_ago = time.time() - GONE_SECONDS - 5
    os.utime(owner, (long_ago, long_ago))
    with lock_part(tmp_path, "3"):
        assert owner.read_text() == f"{os.getpid()} on {socket.gethostname()}"
    assert not owner.exists()


def test_processes_with_other_settings_never_share_a_study(plan):
    names = {plan.study_name, *(replace(plan, **change).study_name for change in (
        {"groups": 2}, {"seeds": (1,)}, {"prune": ("median",)}, {"overrides": ("optim.weight_decay=0.3",)},
        {"trials": 2}, {"one_at_a_time": True}, {"method": "tpe"},
    ))}  # fmt: skip
    assert len(names) == 8
    assert replace(plan, overrides=("train.threads=3", "train.device=cpu")).study_name == plan.study_name
    more = replace(plan, method="tpe", trials=30)
    assert more.study_name == replace(plan, method="tpe").study_name and more.parts == 31


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "--trials 0"),
        ({"prune": ("median", "halving")}, "choose one"),
        ({"one_at_a_time": True, "method": "tpe"}, "leave --search tpe out"),
    ],
)
def test_contradicting_options_are_refused(options, message, tiny_config, tmp_path):
    tiny_config()
    with pytest.raises(ConfigError, match=message):
        plan_sweep(tmp_path / "tiny.yaml", [], ["optim.lr=[1e-3]"], tmp_path, **options)


@pytest.mark.parametrize(
    ("tried", "message"),
    [
        ("optim.lr=3..1", "first number of a range must be smaller"),
        ("optim.lr=0..1,log", "must begin above 0"),
        ("optim.lr=1e-4..1e-2,lin", "give a list of values"),
    ],
)
def test_a_wrong_range_is_refused(tried, message):
    with pytest.raises(ConfigError, match=message):
        parse_space([tried])


def test_a_range_needs_a_sampler_and_both_ends_must_be_allowed(tiny_config, tmp_path):
    tiny_config()
    with pytest.raises(ConfigError, match="--try optim.lr: a grid needs values; give a list, or add --search tpe"):
        plan_sweep(tmp_path / "tiny.yaml", [], ["optim.lr=1e-4..1e-2"], tmp_path)
    with pytest.raises(ConfigError, match="train.ema_decay"):
        plan_sweep(tmp_path / "tiny.yaml", [], ["train.ema_decay=0.5..1.5"], tmp_path, method="random")
    assert parse_space(["optim.lr=1e-4..1e-2,log"]) == [Range("optim.lr", 1e-4, 1e-2, False, True)]


def test_a_damaged_journal_and_a_database_that_cannot_be_used_are_one_line(tmp_path):
    make_study(tmp_path).enqueue({0: ()})
    journal = tmp_path / "study.journal"
    journal.write_bytes(b"garbage\n" + journal.read_bytes())
    with pytest.raises(DataError, match="the journal is damaged.*move it away") as caught:
        make_study(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"--storage sqlite:///.*: cannot use this database") as caught:
        SweepStudy("sqlite:////no such folder/study.db", "a", "grid", LR, ())
    with pytest.raises(ConfigError, match=r"nothing://me:\*\*\*@host/db: cannot use") as caught:
        SweepStudy("nothing://me:secret@host/db", "a", "grid", LR, ())
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_scores_are_means_over_seeds_of_recalls_by_class():
    def result(seed, right):
        probabilities = np.eye(2)[[0 if ok else 1 for ok in right[:3]] + [1 if right[3] else 0]]
        return FoldResult(seed, 0, "p", Predictions(
            ("a", "b", "c", "d"), ("x", "x", "y", "x"), (None,) * 4, (None,) * 4, np.array([0, 0, 0, 1]),
            probabilities, ("happy", "sad"),
        ))  # fmt: skip

    results = [result(0, [True, False, True, True]), result(1, [True, True, False, False])]
    assert speaker_scores(results) == {"x": pytest.approx((0.75 + 0.5) / 2), "y": 0.5}
    assert pooled_score(results) == pytest.approx(((2 / 3 + 1) / 2 + (2 / 3 + 0) / 2) / 2)
