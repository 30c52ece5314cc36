"""A run learns, is reproducible, resumes to the same bits, and stops when it must."""

import errno
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import serx
from serx import checkpoint
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import CheckpointError, ConfigError, DataError, DiskError, DivergedError, RunInUseError
from serx.evaluation import evaluate
from serx.evaluation.held_out import load_held_out
from serx.evaluation.stress import stress_test, write_stress_test
from serx.files import write_atomically
from serx.training import epoch
from serx.training.console import print_run_header
from serx.training.losses import class_weights
from serx.training.run_folder import (
    BEST,
    LAST,
    METRICS,
    PREVIOUS,
    choose_run_folder,
    lock_run_folder,
    read_metrics,
    remove_run,
)
from serx.training.state import TrainingState
from serx.training.trainer import Trainer, fit
from tests.conftest import TINY

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def lines(folder: Path) -> list[dict]:
    """The lines of `metrics.jsonl` without the speed, which depends on the clock."""
    records = [json.loads(text) for text in (folder / METRICS).read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "clips_per_second"} for record in records]


def same_state(one: Path, two: Path) -> None:
    a, b = checkpoint.load(one / LAST), checkpoint.load(two / LAST)
    assert a.tensors.keys() == b.tensors.keys()
    for name in a.tensors:
        assert torch.equal(a.tensors[name], b.tensors[name]), name
    assert a.metadata["progress"] == b.metadata["progress"]


def test_a_cnn2d_learns_the_tiny_corpus(tiny_config, tmp_path):
    outcome = fit(tiny_config("train.epochs=12", "optim.lr=0.01"), tmp_path / "run", progress=False)
    assert outcome.kept["valid"]["uar"] > 0.9
    first, last = lines(tmp_path / "run")[0], lines(tmp_path / "run")[-1]
    assert last["train"]["loss"] < first["train"]["loss"]


@pytest.mark.parametrize("tune", ["frozen", "lora", "full", None])
def test_the_header_of_a_run_prints_its_parameters_and_how_many_are_trainable(
    tune, tiny_config, tmp_path, encoder_folder, capsys
):
    source = encoder_folder("whisper")
    encoder = ("augment={}", "features={stack: [waveform], normalize: none}")
    config = (
        tiny_config(*encoder, f"model={{kind: speech_encoder, source: {source}, tune: {tune}}}")
        if tune
        else tiny_config()
    )
    dataset = load_dataset(config.data, progress=False)
    state = TrainingState(config, dataset.labels, torch.device("cpu"), pretrained=True)
    print_run_header(state, dataset, split_dataset(dataset, config.data, progress=False), tmp_path)
    frozen, trainable = (
        sum(p.numel() for p in state.recognizer.parameters() if p.requires_grad is flag) for flag in (False, True)
    )
    total = f"{(frozen + trainable) / 1e6:.2f} M"
    count = f"{trainable / 1e6:.2f} M trainable parameters of {total}" if frozen else f"{total} parameters"
    assert (frozen > 0) == bool(tune)
    assert f", {count}, on cpu" in capsys.readouterr().out


def test_an_mlp_on_statistics_learns_the_tiny_corpus(tiny_config, tmp_path):
    config = tiny_config(
        "features={stack: [mfcc, chroma, pitch, rms, zcr], n_fft: 512, statistics: [mean, std, range]}",
        "model={kind: mlp, widths: [32]}",
        "augment={}",
        "train.epochs=12",
        "optim.lr=0.01",
    )
    assert fit(config, tmp_path / "run", progress=False).kept["valid"]["uar"] > 0.9


def test_mel_warp_changes_a_run_and_two_such_runs_give_the_same_bits(tiny_config, tmp_path):
    for name in ("a", "b"):
        fit(
            tiny_config("augment.mel_warp={p: 0.7, rate: [0.9, 1.1]}", "train.epochs=1"),
            tmp_path / name,
            progress=False,
        )
    fit(tiny_config("train.epochs=1"), tmp_path / "plain", progress=False)
    same_state(tmp_path / "a", tmp_path / "b")
    assert lines(tmp_path / "a") != lines(tmp_path / "plain")


def test_the_same_configuration_gives_the_same_bits(tiny_config, tmp_path):
    for name in ("a", "b"):
        fit(tiny_config(), tmp_path / name, progress=False)
    same_state(tmp_path / "a", tmp_path / "b")
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_another_seed_gives_another_run(tiny_config, tmp_path):
    for seed in (0, 1):
        fit(tiny_config(f"train.seed={seed}", "train.epochs=1"), tmp_path / str(seed), progress=False)
    assert lines(tmp_path / "0")[0]["train"]["loss"] != lines(tmp_path / "1")[0]["train"]["loss"]


VARIANTS = {
    "averaged weights": [],
    "plateau, mixup, balanced": [
        "optim.schedule=plateau", "optim.plateau_patience=1", "augment.mixup=0.4", "train.ema_decay=0",
        "train.sampling=class_balanced", "train.label_smoothing=0.1",
    ],
    "fp16, accumulation": ["train.precision=fp16", "train.accumulation_steps=2", "model.kind=cnn1d",
                           "train.ema_decay=0"],
}  # fmt: skip


def variant_config(tiny_config, name: str):
    overrides = VARIANTS[name]
    if "model.kind=cnn1d" in overrides:
        overrides = [o for o in overrides if not o.startswith("model.")] + [
            "model={kind: cnn1d, stem: 8, widths: [8, 8, 8]}"
        ]
    return tiny_config(*overrides)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_interrupted_at_any_step_resumes_to_the_same_bits(variant, tiny_config, tmp_path, monkeypatch):
    config = variant_config(tiny_config, variant)
    fit(config, tmp_path / "whole", progress=False)
    steps = len(checkpoint.load(tmp_path / "whole" / LAST).tensors["epoch.finite"])
    for stop_at in {1, steps, steps + 1}:  # inside an epoch, at its end, after its checkpoint
        _stop_and_resume(stop_at, config, tmp_path, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_interrupted_at_every_step_resumes_to_the_same_bits(
    variant, tiny_config, tmp_path, monkeypatch, record_figure
):
    config = variant_config(tiny_config, variant)
    fit(config, tmp_path / "whole", progress=False)
    steps = len(checkpoint.load(tmp_path / "whole" / LAST).tensors["epoch.finite"]) * config.train.epochs
    for stop_at in range(1, steps):
        _stop_and_resume(stop_at, config, tmp_path, monkeypatch)
    record_figure(f"stopped at each of {steps - 1} steps ({variant}): the same bits")


def _stop_and_resume(stop_at: int, config, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / f"stopped{stop_at}"
    _fit_until(stop_at, config, folder, monkeypatch)
    fit(config, folder, resume=True, progress=False)
    same_state(tmp_path / "whole", folder)
    assert lines(folder) == lines(tmp_path / "whole")


def _fit_until(step: int, config, folder: Path, monkeypatch) -> None:
    """Sends this process SIGTERM after so many steps."""
    taken = 0

    def after_step(self, steps, bar, signals):
        inner = original_after(self, steps, bar, signals)

        def count() -> bool:
            nonlocal taken
            taken += 1
            if taken == step:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.001)  # let the handler run
            return inner()

        return count

    original_after = Trainer._after_step
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_after_step", after_step)
        outcome = fit(config, folder, progress=False)
    assert outcome.stopped_by == signal.SIGTERM


def test_resuming_with_other_settings_is_refused_with_their_names(tiny_config, tmp_path):
    fit(tiny_config("train.epochs=1"), tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.001 -> 0\.5"):
        fit(tiny_config("train.epochs=1", "optim.lr=0.5"), tmp_path / "run", resume=True, progress=False)


def test_every_tensor_missing_from_a_checkpoint_is_named(tiny_config, tmp_path):
    config = tiny_config("train.epochs=1")
    fit(config, tmp_path / "run", progress=False)
    saved = checkpoint.load(tmp_path / "run" / LAST)
    dataset = load_dataset(config.data, progress=False)
    for name in saved.tensors:
        rest = {key: tensor for key, tensor in saved.tensors.items() if key != name}
        state = TrainingState(config, dataset.labels, torch.device("cpu"), pretrained=False)
        state.start_average()
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            state.load_state_dict(checkpoint.Checkpoint(rest, saved.metadata))


def test_early_stopping_waits_for_its_patience(tiny_config, tmp_path):
    config = tiny_config(
        "train.epochs=30", "train.patience=2", "optim.lr=1e-9", "train.ema_decay=0", "optim.schedule=constant"
    )
    fit(config, tmp_path / "run", progress=False)
    records = lines(tmp_path / "run")
    best = max(i for i, record in enumerate(records) if record["kept"])
    assert len(records) == best + 1 + 2 < 30


def test_the_best_checkpoint_holds_the_averaged_weights_of_the_best_epoch(tiny_config, tmp_path):
    config = tiny_config("train.epochs=4")
    fit(config, tmp_path / "run", progress=False)
    best, last = checkpoint.load(tmp_path / "run" / BEST), checkpoint.load(tmp_path / "run" / LAST)
    records = lines(tmp_path / "run")
    assert best.metadata["progress"]["best_epoch"] == max(r["epoch"] for r in records if r["kept"])
    if best.metadata["progress"]["epoch"] == last.metadata["progress"]["epoch"]:
        name = "backbone.members.0.embedding.weight"
        assert torch.equal(best.tensors[f"model.{name}"], last.tensors[f"ema.{name}"])
    assert not any(name.startswith("optimizer") for name in best.tensors)


def test_a_step_with_a_non_finite_gradient_changes_no_weight(tiny_config, tmp_path, monkeypatch):
    config = tiny_config("train.epochs=1", "train.ema_decay=0")
    poisoned = []

    def poison(state, waveform, lengths, clips):
        features, frames = original(state, waveform, lengths, clips)
        if state.progress.step == 1:
            poisoned.append({name: t.clone() for name, t in state.recognizer.state_dict().items()})
            return features * float("nan"), frames
        if state.progress.step == 2 and poisoned:
            for name, tensor in state.recognizer.state_dict().items():
                assert tensor.dtype == torch.int64 or torch.equal(tensor, poisoned[0][name]), name
        return features, frames

    original = epoch.augmented_features
    monkeypatch.setattr("serx.training.epoch.augmented_features", poison)
    fit(config, tmp_path / "run", progress=False)
    assert poisoned
    assert lines(tmp_path / "run")[0]["skipped_steps"] == 1
    assert math.isfinite(lines(tmp_path / "run")[0]["train"]["loss"])


def test_a_run_that_stays_non_finite_stops_and_names_clips(tiny_config, tmp_path, monkeypatch):
    original = epoch.augmented_features

    def poison(*arguments):
        features, frames = original(*arguments)
        return features * float("nan"), frames

    monkeypatch.setattr("serx.training.epoch.augmented_features", poison)
    with pytest.raises(DivergedError, match=r"03-01-0.*\.wav"):
        fit(tiny_config(), tmp_path / "run", progress=False)


def test_two_runs_cannot_share_a_folder(tiny_config, tmp_path):
    with lock_run_folder(tmp_path / "run"), pytest.raises(RunInUseError, match=str(os.getpid())):
        fit(tiny_config(), tmp_path / "run", progress=False)


def test_a_folder_with_a_run_is_not_overwritten_without_a_flag(tiny_config, tmp_path):
    fit(tiny_config("train.epochs=1"), tmp_path / "run", progress=False)
    with pytest.raises(ConfigError, match="--resume"):
        choose_run_folder(str(tmp_path / "run"), "tiny", resume=False)
    with pytest.raises(ConfigError, match="leave --resume out"):
        choose_run_folder(str(tmp_path / "other"), "tiny", resume=True)


@pytest.mark.parametrize("folder", ["/", "~", "/tmp/.."])
def test_a_run_needs_a_folder_of_its_own(folder):
    with pytest.raises(ConfigError, match="holds more than a run"):
        choose_run_folder(os.path.expanduser(folder), "tiny", resume=False)


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("train", [fit, serx.fit], ids=("serx.training.fit", "serx.fit"))
def test_fit_refuses_a_folder_that_holds_a_run_and_changes_no_file_in_it(train, tiny_config, tmp_path):
    folder = tmp_path / "run"
    train(tiny_config("train.epochs=1"), folder, progress=False)
    (folder / LAST).unlink()  # `previous` alone is a run as well
    (folder / BEST).rename(folder / PREVIOUS)
    before = content(folder)
    for config, given in (
        (tiny_config("train.epochs=2"), folder),
        (tiny_config("train.epochs=2", f"train.output={folder}"), None),
    ):
        with pytest.raises(ConfigError, match=r"run already holds a run; add --resume \(resume=True in Python\)"):
            train(config, given, progress=False)
    assert content(folder) == before


def test_what_is_left_of_a_run_is_not_overwritten_either(tiny_config, tmp_path):
    config, folder = tiny_config("train.epochs=2"), tmp_path / "run"
    serx.fit(config, folder, progress=False)
    (folder / LAST).unlink()
    (folder / PREVIOUS).unlink(missing_ok=True)
    best = (folder / BEST).read_bytes()
    with pytest.raises(ConfigError, match=r"holds best.safetensors of an earlier run, whose last.safetensors is gone"):
        serx.fit(config, folder, progress=False)
    assert (folder / BEST).read_bytes() == best
    serx.fit(config, folder, progress=False, overwrite=True)


def test_two_runs_that_start_in_the_same_second_get_two_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    for name in ("20260101-000000", "20260101-000000-2", "20260101-000000-3"):
        folder = choose_run_folder(None, "cnn2d", resume=False)
        assert folder.name == name
        folder.mkdir(parents=True)


def test_a_folder_name_that_no_file_system_takes_is_one_line(tiny_config, tmp_path):
    with pytest.raises(DiskError, match="cannot write here: File name too long"):
        serx.fit(tiny_config(), tmp_path / ("x" * 300), progress=False)


def test_weights_that_overflow_are_a_divergence_and_not_a_damaged_checkpoint(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("serx.checkpoint.file.first_not_finite", lambda tensors: "model.bias")
    with pytest.raises(DivergedError, match=r"model.bias holds NaN or infinity: training diverged; lower optim.lr"):
        fit(tiny_config("train.epochs=1"), tmp_path / "run", progress=False)


def test_fit_with_overwrite_replaces_the_run_and_only_the_run(tiny_config, tmp_path):
    folder = tmp_path / "run"
    fit(tiny_config("train.epochs=3", "train.seed=1"), folder, progress=False)
    old_events = set(folder.glob("events.out.tfevents.*"))
    (folder / "notes.txt").write_text("mine")
    (folder / "00007").mkdir()
    (folder / "00007" / "notes.txt").write_text("mine too")
    again = serx.fit(tiny_config("train.epochs=1"), folder, progress=False, overwrite=True)
    fit(tiny_config("train.epochs=1"), tmp_path / "fresh", progress=False)
    same_state(tmp_path / "fresh", folder)
    assert lines(folder) == lines(tmp_path / "fresh")
    assert again.kept["epoch"] == 0 and not (folder / PREVIOUS).exists()
    assert old_events and not old_events & set(folder.glob("events.out.tfevents.*"))
    assert content(folder).keys() - {"notes.txt", "00007/notes.txt"} == {".lock", ".owner", "config.yaml"} | {
        "best.safetensors", "last.safetensors", "metrics.jsonl", "projector_config.pbtxt", "00001/valid/metadata.tsv",
        "00001/valid/tensors.tsv", *(path.name for path in folder.glob("events.out.tfevents.*")),
    }  # fmt: skip


def test_overwriting_deletes_every_report_on_the_old_run_and_no_other_file(tiny_config, tmp_path):
    folder = tmp_path / "run"
    fit(tiny_config("train.epochs=1"), folder, progress=False)
    before = content(folder).keys()
    evaluation = evaluate(folder / BEST, device="cpu", progress=False)
    evaluation.write(folder, read_metrics(folder)[0])
    evaluation.write(folder / "again")
    write_stress_test(folder, stress_test(load_held_out(folder / BEST, device="cpu", progress=False)))
    (folder / "best.onnx").touch()
    assert len(content(folder).keys() - before) > 12
    for kept in ("mine.txt", "again/mine.txt", "other/evaluation.json"):
        (folder / kept).parent.mkdir(exist_ok=True)
        (folder / kept).write_text('{"checkpoint": "elsewhere/best.safetensors"}')
    remove_run(folder)
    assert content(folder).keys() == {"mine.txt", "again/mine.txt", "other/evaluation.json", ".lock", ".owner"}


@pytest.mark.parametrize(("saves", "advice"), [(0, "start the run again, without --resume"), (1, "with --resume")])
def test_the_advice_after_a_full_disk_is_one_that_works(saves, advice, tiny_config, tmp_path, monkeypatch):
    config, folder, written = tiny_config("train.epochs=2"), tmp_path / "run", []

    def full(path, content, keep=None):
        written.extend([path] * (path.name == LAST))
        if len(written) > saves:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_atomically(path, content, keep)

    monkeypatch.setattr("serx.checkpoint.file.write_atomically", full)
    with pytest.raises(DiskError, match=rf"No space left on device \(.* MB free\).*{advice}") as caught:
        fit(config, folder, progress=False)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    if not saves:
        with pytest.raises(ConfigError, match="leave --resume out"):
            fit(config, folder, resume=True, progress=False)
    assert fit(config, folder, resume=bool(saves), progress=False).kept


def test_with_select_last_no_line_calls_an_epoch_the_best(tiny_config, tmp_path, capsys):
    outcome = fit(tiny_config("train.select=last"), tmp_path / "run", progress=False)
    assert outcome.kept["epoch"] == 2
    assert not re.search(r"best(?!\.safetensors)|\*", capsys.readouterr().out)
    assert all("best" not in line and line["kept"] for line in lines(tmp_path / "run"))
    fit(tiny_config(), tmp_path / "chosen", progress=False)
    assert "*" in capsys.readouterr().out


def test_overwriting_a_run_that_another_process_trains_is_refused(tiny_config, tmp_path):
    fit(tiny_config("train.epochs=1"), tmp_path / "run", progress=False)
    before = content(tmp_path / "run")
    with lock_run_folder(tmp_path / "run"), pytest.raises(RunInUseError):
        fit(tiny_config(), tmp_path / "run", progress=False, overwrite=True)
    assert content(tmp_path / "run") == before


def test_resuming_without_an_output_takes_the_run_that_was_saved_last(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = {"z/last": 10, "20260101-120000/last": 30, "20260101-120000/previous": 20, "b/last": 25, "c/previous": 40}
    for name, seconds in saved.items():
        path = tmp_path / f"checkpoints/tiny/{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (seconds, seconds))
    chosen = []
    for _ in range(4):
        chosen.append(choose_run_folder(None, "tiny", resume=True))
        shutil.rmtree(chosen[-1])
    assert [folder.name for folder in chosen] == ["c", "20260101-120000", "b", "z"]
    with pytest.raises(ConfigError, match="no run in"):
        choose_run_folder(None, "tiny", resume=True)


NO_VALIDATION = (
    "data.protocol=holdout",
    "data.test_speakers=[]",
    "data.valid_speakers=[]",
    "data.valid_fraction=0",
    "train.select=last",
)


def test_without_validation_the_last_epoch_is_kept_with_the_configured_temperature(tiny_config, tmp_path):
    config = tiny_config(*NO_VALIDATION, "train.temperature=0.8")
    outcome = fit(config, tmp_path / "run", progress=False)
    records = lines(tmp_path / "run")
    assert [r["valid"] for r in records] == [None] * 3 and outcome.kept["epoch"] == 2
    assert [r["kept"] for r in records] == [True] * 3
    best, last = (checkpoint.load(tmp_path / "run" / name) for name in (BEST, LAST))
    assert best.metadata["temperature"] == 0.8 and best.metadata["speakers"]["valid"] == []
    assert all(torch.equal(t, last.group("ema")[name]) for name, t in best.group("model").items())
    evaluated = evaluate(tmp_path / "run" / BEST, None, "test", torch.device("cpu"), progress=False)
    assert set(evaluated.predictions.speaker_ids) == set(best.metadata["speakers"]["test"])
    evaluated.write(tmp_path / "out", records)
    assert (tmp_path / "out" / "curves.png").exists()
    events = EventAccumulator(str(tmp_path / "run"))
    tags = events.Reload().Tags()["scalars"]
    assert {"train/uar", "kept/uar"} <= set(tags) and not [tag for tag in tags if tag.startswith("valid")]


def test_a_manifest_without_validation_rows_trains_with_select_last_only(tiny_config, tmp_path, tiny_root):
    dataset = load_dataset(tiny_config().data, progress=False)
    rows = ["path,emotion,speaker,split"]
    for u in dataset.utterances:
        rows.append(f"{u.path},{u.emotion},{u.speaker},{'test' if u.speaker in ('01', '02') else 'train'}")
    manifest = tmp_path / "clips.csv"
    manifest.write_text("\n".join(rows))
    manifested = (f"data.root={manifest}", "data.protocol=manifest", "data.test_speakers=[]", "data.valid_speakers=[]")
    with pytest.raises(ConfigError, match=r"train\.select is uar, but there is no validation"):
        fit(tiny_config(*manifested, "data.valid_fraction=0"), tmp_path / "refused", progress=False)
    config = tiny_config(*manifested, "data.valid_fraction=0", "train.select=last", "train.epochs=1")
    assert fit(config, tmp_path / "run", progress=False).kept["valid"] is None


@pytest.mark.pictures
def test_the_event_files_hold_curves_images_sounds_and_texts(tiny_config, tmp_path):
    fit(tiny_config(), tmp_path / "run", progress=False)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0, "audio": 0, "scalars": 0})
    events.Reload()
    records = lines(tmp_path / "run")
    for tag, value in (("valid/uar", "uar"), ("valid/macro_f1", "macro_f1"), ("valid/loss", "loss")):
        assert [e.step for e in events.Scalars(tag)] == [1, 2, 3]
        np.testing.assert_allclose(
            [e.value for e in events.Scalars(tag)], [r["valid"][value] for r in records], rtol=1e-5
        )
    tags = events.Tags()
    for tag in ("train/loss", "train/accuracy", "loop/lr", "loop/grad_norm", "loop/clips_per_second",
                "valid_recall/neutral", "kept/uar"):  # fmt: skip
        assert tag in tags["scalars"], tag
    assert "valid/confusion" in tags["images"]
    shown = events.Images("augmented/0")[0]
    assert (shown.width, shown.height) == (880, 440)
    assert "augmented/0" in tags["audio"]
    texts = {
        tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in tags["tensors"]
        if tag.endswith("/text_summary")
    }
    assert "kind: cnn2d" in texts["config/text_summary"]
    assert "speaker" in texts["protocol/text_summary"]


def test_class_weights_equal_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    targets = np.array([0, 0, 0, 1, 2, 2])
    reference = compute_class_weight("balanced", classes=np.arange(3), y=targets)
    np.testing.assert_allclose(class_weights("balanced", targets, 3).numpy(), reference, rtol=1e-6)
    assert class_weights("none", targets, 3).tolist() == [1, 1, 1]


def test_a_split_without_training_clips_raises_one_line(tiny_config, tmp_path):
    with pytest.raises(DataError, match="speakers?") as caught:
        fit(
            tiny_config("data.test_speakers=[1, 2, 3, 4, 5, 6]", "data.valid_speakers=[]"),
            tmp_path / "run",
            progress=False,
        )
    assert "\n" not in str(caught.value)


def test_a_killed_training_process_resumes_to_the_same_bits(tiny_config, tmp_path):
    """Runs the script; tests/reliability kills forked processes at random moments."""
    fit(tiny_config("train.epochs=6"), tmp_path / "whole", progress=False)
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", "tiny.yaml", *TINY, "train.epochs=6",
               "train.output=killed"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(lines(tmp_path / "killed")) < 6
    resumed = subprocess.run([*command, "--resume"], check=False, capture_output=True, text=True, cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    same_state(tmp_path / "whole", tmp_path / "killed")
    assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


def test_a_function_called_after_each_epoch_can_end_the_training_which_resumes_to_the_same_result(
    tiny_config, tmp_path
):
    config = tiny_config("train.epochs=4", "train.loggers=[]")
    seen = []

    def second(line) -> bool:
        seen.append((line["epoch"], line["valid"]["uar"]))
        return line["epoch"] == 1

    ended = fit(config, tmp_path / "a", progress=False, on_epoch=second)
    assert [epoch for epoch, _ in seen] == [0, 1] and ended.stopped_by is None
    assert [line["epoch"] for line in read_metrics(tmp_path / "a")[0]] == [0, 1]
    fit(config, tmp_path / "a", resume=True, progress=False, on_epoch=lambda line: False)
    fit(config, tmp_path / "b", progress=False)
    resumed, whole = (
        [(line["epoch"], line["train"]["loss"], line["valid"]) for line in read_metrics(tmp_path / name)[0]]
        for name in "ab"
    )
    assert resumed == whole and [(epoch, valid["uar"]) for epoch, _, valid in whole[:2]] == seen
