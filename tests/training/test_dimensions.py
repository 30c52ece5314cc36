"""Dimensions such as arousal, alone and together with emotions: learned, validated, evaluated, predicted, refused."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from serx import checkpoint
from serx.config import load_config
from serx.data import dataset as dataset_module
from serx.data.dataset import load_dataset
from serx.demo import html
from serx.demo.analysis import analyze
from serx.errors import CheckpointError, ConfigError, DataError
from serx.evaluation import evaluate
from serx.evaluation.comparison import compare_runs
from serx.evaluation.comparison_report import format_comparison, markdown_comparison
from serx.evaluation.cross_validation_report import write_cross_validation
from serx.evaluation.finished_runs import read_run
from serx.evaluation.held_out import load_held_out
from serx.evaluation.pooling import FoldResult
from serx.evaluation.ranking import format_ranking, markdown_ranking
from serx.evaluation.ratings import join_ratings, score_ratings
from serx.evaluation.stress import format_stress_test, stress_test, write_stress_test
from serx.experiments.cross_validation import check_can_adapt
from serx.experiments.folds import read_fold
from serx.experiments.leakage import COPIES, format_lesson, run_leakage_lesson, with_copies
from serx.experiments.sweep import collect
from serx.experiments.sweep_part import VALID, plan_runs, run_part
from serx.experiments.sweep_plan import plan_sweep
from serx.inference.export import export_onnx
from serx.inference.predictor import Predictor
from serx.metrics import ccc
from serx.pages import comparison_page, cross_validation_page
from serx.pages.sections import Reproduction
from serx.recognizer import Dimension, Recognizer
from serx.training import fit
from serx.training.ensemble import build_ensemble
from serx.training.run_folder import METRICS, read_metrics
from serx.training.trainer import check_one_process
from tests.conftest import RATE, speechlike
from tests.test_cli import run_here

PITCHES, LEVELS = (110, 150, 200, 260), (0.02, 0.06, 0.2)
RATINGS: dict[str, tuple[tuple[str, float], ...]] = {}  # file name -> ratings


@pytest.fixture(scope="session")
def rated_root(tmp_path_factory) -> Path:
    """8 speakers x 12 clips of four pitches and three levels, named like RAVDESS; the emotion is the level.

    Arousal from 1 to 7 is the logarithm of the level, valence from 1 to 5 that of the pitch.
    """
    root = tmp_path_factory.mktemp("rated")
    for actor in range(1, 9):
        for n, (pitch, level) in enumerate((p, v) for p in PITCHES for v in LEVELS):
            name = f"03-01-0{1 + 2 * (n % 3)}-01-0{1 + n // 3 % 2}-0{1 + n // 6}-{actor:02d}.wav"
            wave = speechlike(0.4 + 0.02 * (n % 5), pitch * (1 + 0.01 * actor), 97 * actor + n, level)
            soundfile.write(root / name, wave, RATE)
            arousal = 1 + 6 * np.log(level / LEVELS[0]) / np.log(LEVELS[-1] / LEVELS[0])
            valence = 1 + 4 * np.log(pitch / PITCHES[0]) / np.log(PITCHES[-1] / PITCHES[0])
            RATINGS[name] = (("arousal", float(arousal)), ("valence", float(valence)))
    return root


@pytest.fixture
def rated(monkeypatch, rated_root):
    """A function that lets `scan` add the ratings, and what `change(n, utterance)` returns."""
    original = dataset_module.scan_once

    def install(change=lambda n, u: {}):
        def scan(*arguments):
            found = original(*arguments)
            clips = [replace(u, dimensions=RATINGS.get(u.path.name, ())) for u in found.utterances]
            return replace(found, utterances=tuple(replace(u, **change(n, u)) for n, u in enumerate(clips)))

        monkeypatch.setattr(dataset_module, "scan_once", scan)

    install()
    return install


DIMENSIONS = "data.tasks=[dimensions]", "data.dimensions=[arousal, valence]"
BOTH = "data.tasks=[emotions, dimensions]", "data.dimensions=[arousal, valence]"


@pytest.fixture
def config_of(rated_root, tmp_path):
    """A function from overrides to a configuration of a small network on feature statistics."""
    path = tmp_path / "rated.yaml"
    path.write_text(
        f"data: {{root: {rated_root}, protocol: speakers, test_speakers: ['7', '8'], valid_speakers: ['5', '6']}}\n"
        "features: {n_mels: 32, n_fft: 1024, statistics: [mean, std], normalize: training}\n"
        "model: {kind: mlp, widths: [32], dropout: 0.0}\n"
        "optim: {lr: 1e-2}\n"
        "train: {epochs: 25, batch_size: 24, device: cpu, threads: 1}\n"
    )
    return lambda *overrides: load_config(path, overrides)


def test_dimensions_are_learned_and_score_on_unseen_speakers(rated, config_of, tmp_path, capsys):
    config = config_of(*DIMENSIONS)
    run = fit(config, tmp_path / "run", progress=False)
    assert config.train.select == "ccc"
    printed = capsys.readouterr().out
    assert "dimensions: arousal (1 to 7), valence (1 to 5)" in printed and "classes:" not in printed
    lines, warnings = read_metrics(run.folder)
    assert not warnings and "uar" not in lines[-1]["valid"]
    best = max(range(len(lines)), key=lambda i: lines[i]["valid"]["ccc"])
    assert run.kept["epoch"] == best and run.kept["valid"]["ccc"] > 0.9
    mean = np.mean([run.kept["valid"][f"ccc_{name}"] for name in ("arousal", "valence")])
    assert run.kept["valid"]["ccc"] == pytest.approx(mean)

    evaluation = evaluate(run.checkpoint, progress=False)
    scores, r = evaluation.scores["dimensions"], evaluation.ratings
    assert evaluation.ccc > 0.9 and scores["arousal"]["n_clips"] == 24 and evaluation.scores["n_speakers"] == 2
    for i, name in enumerate(("arousal", "valence")):
        assert scores[name]["ccc"] == pytest.approx(ccc(r.targets[:, i], r.predicted[:, i]))
        assert scores[name]["rmse"] == pytest.approx(np.sqrt(np.mean((r.targets - r.predicted)[:, i] ** 2)))
        assert scores[name]["pearson"] == pytest.approx(np.corrcoef(r.targets[:, i], r.predicted[:, i])[0, 1])
        low, high = scores[name]["intervals"]["ccc"]
        assert low <= scores[name]["ccc"] <= high
    assert set(scores["arousal"]["per_sex"]) == {"male", "female"}
    with pytest.raises(DataError, match="predicts no emotions"):
        _ = evaluation.uar
    report = evaluation.report()
    assert f"mean CCC {evaluation.ccc:.3f}" in report and "arousal, female" in report and "UAR" not in report
    written = evaluation.write(tmp_path / "out", lines)
    assert {p.name for p in written.parent.iterdir()} == {"evaluation.json", "ratings.csv", "curves.png"}
    assert json.loads(written.read_text())["dimensions"]["mean"]["ccc"] == pytest.approx(evaluation.ccc)
    assert (written.parent / "ratings.csv").read_text().startswith("path,speaker,sex,arousal,valence,predicted_arousal")


@pytest.fixture
def predicting(rated, config_of, tmp_path):
    """The checkpoint of a short run that learned dimensions."""
    return fit(config_of(*DIMENSIONS, "train.epochs=2"), tmp_path / "run", progress=False).checkpoint


def test_a_checkpoint_of_dimensions_predicts_them_in_units_of_the_ratings(predicting, rated_root, tmp_path):
    predictor = Predictor.load(predicting, "cpu")
    assert predictor.labels == () and predictor.dimensions[0] == ("arousal", 1.0, pytest.approx(7.0))
    paths = sorted(rated_root.glob("*.wav"))[:5]
    together, alone = predictor(paths), [predictor(path) for path in paths]
    for one, many in zip(alone, together, strict=True):
        assert one.label is None and one.probabilities == {} and set(one.dimensions) == {"arousal", "valence"}
        assert many.dimensions == pytest.approx(one.dimensions, abs=1e-4)
    assert evaluate(predicting, part="all", allow_seen=True, progress=False).ratings.predicted.shape == (96, 2)
    done = run_here("predict", "--checkpoint", predicting, paths[0], cwd=tmp_path)
    assert done.returncode == 0 and f"arousal {alone[0].dimensions['arousal']:.2f}  valence" in done.stdout
    done = run_here("predict", "--checkpoint", predicting, "--json", paths[0], cwd=tmp_path)
    assert json.loads(done.stdout)[0]["dimensions"]["valence"] == pytest.approx(alone[0].dimensions["valence"])


def test_what_is_for_emotions_refuses_dimensions_with_one_line(predicting, rated_root, config_of, tmp_path):
    predictor = Predictor.load(predicting, "cpu")
    with (
        pytest.raises(ConfigError, match="speaker adaptation adjusts probabilities of emotions"),
        predictor.adapted_to(rated_root),
    ):
        pass
    with pytest.raises(ConfigError, match="min_confidence is a probability of emotions"):
        Predictor.load(predicting, "cpu", min_confidence=0.5)
    with pytest.raises(ConfigError, match="--adapt scores emotions only"):
        check_can_adapt(config_of(*DIMENSIONS))
    for command in (("evaluate", "--adapt"),):
        done = run_here(*command, "--checkpoint", predicting, cwd=tmp_path)
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, (command, done.stderr)


def test_an_ensemble_averages_dimensions_in_units_of_the_ratings_and_keeps_emotions(rated, config_of, tmp_path):
    for tasks in (DIMENSIONS, BOTH):
        folder = tmp_path / str(len(tasks[0]))
        one = fit(config_of(*tasks, "train.epochs=2"), folder / "one", progress=False).checkpoint
        saved = checkpoint.load_run_checkpoint(one)
        metadata = {name: value for name, value in saved.metadata.items() if name not in ("format", "sha256")}
        wider = [{**metadata["dimensions"][0], "low": -1.0, "high": 9.0}, metadata["dimensions"][1]]
        checkpoint.save(folder / "wider.safetensors", saved.tensors, {**metadata, "dimensions": wider})
        built = build_ensemble([one, folder / "wider.safetensors"], folder / "both.safetensors", [3, 1])
        assert built.dimensions == ("arousal", "valence")
        paths = [one, folder / "wider.safetensors", folder / "both.safetensors"]
        first, second, both = (Predictor.load(path, "cpu") for path in paths)
        assert [tuple(d) for d in both.dimensions] == [("arousal", -1, 9), ("valence", 1, 5)]
        clip = speechlike(0.6, 170, 3)
        values = [predictor(clip, RATE).dimensions for predictor in (first, second, both)]
        for name in ("arousal", "valence"):
            assert values[2][name] == pytest.approx(0.75 * values[0][name] + 0.25 * values[1][name], abs=1e-4)
        assert both(clip, RATE).probabilities == pytest.approx(first(clip, RATE).probabilities, abs=1e-5)
        assert evaluate(folder / "both.safetensors", progress=False).scores["dimensions"]["arousal"]["n_clips"] == 24


def test_pages_show_dimensions_with_dots_of_the_clips_and_ccc_by_speaker(rated, config_of, tmp_path):
    path = fit(config_of(*DIMENSIONS, "train.epochs=2"), tmp_path / "run", progress=False).checkpoint
    page = tmp_path / "page.html"
    done = run_here("evaluate", "--checkpoint", path, "--out", tmp_path / "out", "--report", page, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text, evaluation = page.read_text(encoding="utf-8"), evaluate(path, progress=False)
    scores = evaluation.scores["dimensions"]
    assert f'<div class="score">{evaluation.ccc:.3f}</div>' in text and "UAR" not in text
    for name in ("arousal", "valence"):
        assert f"<b>{scores[name]['ccc']:.3f}</b></td>" in text and f"{name}, rated" in text
    assert text.count('class="dot c0"') == 2 * 24  # clips of two charts
    r = evaluation.ratings
    for speaker in set(r.speaker_ids):
        own = np.array([name == speaker for name in r.speaker_ids])
        of_speaker = np.mean([ccc(r.targets[own, i], r.predicted[own, i]) for i in range(2)])
        assert f"<bdi>{speaker}</bdi></td><td>{of_speaker:.3f}</td>" in text
    assert "mean CCC" in text and text.count("<figure>") == 4  # two dimensions, loss and CCC over the epochs

    both = fit(config_of(*BOTH, "train.epochs=2"), tmp_path / "both", progress=False).checkpoint
    done = run_here("evaluate", "--checkpoint", both, "--out", tmp_path / "out2", "--report", page, cwd=tmp_path)
    text = page.read_text(encoding="utf-8")
    assert done.returncode == 0 and "Confusion matrix" in text and "valence, rated" in text

    folds = [FoldResult(0, n, f"kfold fold {n}", None, ratings=r) for n in (0, 1)]
    half = len(r.paths) // 2
    for n, part in enumerate((slice(0, half), slice(half, None))):
        of_clips = ("paths", "speaker_ids", "sexes", "targets", "predicted")
        folds[n] = replace(folds[n], ratings=replace(r, **{name: getattr(r, name)[part] for name in of_clips}))
    summary = write_cross_validation(tmp_path / "cv", folds, {})
    config = config_of(*DIMENSIONS)
    dataset = load_dataset(config.data, progress=False)
    text = cross_validation_page(tmp_path / "cv", config, dataset, summary, Reproduction())
    assert f'<div class="score">{evaluation.ccc:.3f}</div>' in text and "<h2>Folds</h2>" in text


def test_the_demo_shows_the_values_of_dimensions(predicting, tmp_path):
    predictor = Predictor.load(predicting, "cpu")
    soundfile.write(tmp_path / "long.wav", np.concatenate([speechlike(2.5, 150, n) for n in range(4)]), RATE)
    analysis = analyze(predictor, tmp_path / "long.wav")
    shown = html.verdict(analysis, "long.wav", predictor.labels)
    for name, value in analysis.prediction.dimensions.items():
        assert f"{name} {value:.2f}" in shown and f"<b>{value:.2f}</b>" in shown
    assert "None" not in shown and html.timeline(analysis.parts, analysis.seconds, predictor.labels) == ""
    usable = [part for part in analysis.parts if part.prediction.error is None]
    assert usable and all("arousal" in html.part_title(part) for part in usable)


def test_an_audit_counts_ratings(rated, config_of, tmp_path):
    config_of()
    for tasks in (DIMENSIONS, BOTH):
        done = run_here("audit", "--config", tmp_path / "rated.yaml", "--json", *tasks, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        arousal = found["dimensions"]["arousal"]
        expected = [dict(of)["arousal"] for of in RATINGS.values()]
        assert (arousal["clips"], arousal["speakers"], arousal["least"], arousal["most"]) == (96, 8, 1, 7)
        assert (arousal["mean"], arousal["std"]) == pytest.approx((np.mean(expected), np.std(expected)))
        assert bool(found["emotions"]) == (tasks == BOTH)
    done = run_here("audit", "--config", tmp_path / "rated.yaml", *DIMENSIONS, cwd=tmp_path)
    assert done.returncode == 0 and "Ratings of dimensions" in done.stdout


def test_a_stress_test_scores_dimensions_by_ccc(rated, config_of, tmp_path):
    path = fit(config_of(*DIMENSIONS), tmp_path / "run", progress=False).checkpoint
    held = load_held_out(path, device="cpu", progress=False)
    result, evaluation = stress_test(held, progress=False), evaluate(path, progress=False)
    clean, *others = result["conditions"]
    assert clean["ccc"] == pytest.approx(evaluation.ccc) and clean["change"] == 0 and clean["interval"] is None
    assert clean["dimensions"]["valence"] == pytest.approx(evaluation.scores["dimensions"]["valence"]["ccc"])
    assert "uar" not in clean and result["chance"] == 0
    for row in others:
        assert row["ccc"] == pytest.approx(np.mean([*row["dimensions"].values()]))
        assert row["change"] == pytest.approx(row["ccc"] - clean["ccc"])
        low, high = row["interval"]
        assert low <= row["change"] <= high
    softer = next(row for row in others if (row["condition"], row["strength"]) == ("gain", "-20 dB"))
    # Arousal is the level here: 20 dB less is the whole range less, and the pitch stays.
    assert softer["dimensions"]["arousal"] < 0.5 < softer["dimensions"]["valence"]
    assert "CCC, arousal" in format_stress_test(result) and "UAR" not in format_stress_test(result)
    write_stress_test(tmp_path / "out", result)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"stress.json", "stress.png"}


def test_a_sweep_ranks_by_ccc_and_runs_of_dimensions_are_compared_speaker_by_speaker(rated, config_of, tmp_path):
    plan = plan_sweep(tmp_path / "rated.yaml", DIMENSIONS, ["optim.lr=[1e-5]"], tmp_path / "sweep", groups=2)
    for part in range(plan.parts):
        assert run_part(plan, part) == 0
    ranking, failed = collect(plan)
    best, worst = ranking["settings"]
    assert not failed and best["name"] == "as it is" and best["ccc"] > 0.8 > worst["ccc"]
    results = [read_fold(run, VALID) for run in plan_runs(plan.setting(()), plan)]
    ratings = join_ratings([result.ratings for result in results])
    assert best["ccc"] == pytest.approx(score_ratings(ratings)["mean"]["ccc"]) and len(best["folds"]) == 2
    assert worst["difference"] == pytest.approx(worst["ccc"] - best["ccc"])
    assert worst["difference_interval"][1] < 0 and "uar" not in best
    assert best["ccc"] == pytest.approx(np.mean([*best["dimensions"].values()]))
    text, table = format_ranking(ranking), markdown_ranking(ranking)
    assert "validation mean CCC" in text and f"{best['ccc']:.3f}" in text and f"{best['ccc']:.3f}" in table
    assert {"sweep.png", "sweep.md", "best.yaml", "sweep.json"} <= {p.name for p in (tmp_path / "sweep").iterdir()}

    runs = [plan_runs(plan.setting(overrides), plan)[0].folder for overrides in ((), ("optim.lr=1e-05",))]
    compared = compare_runs([read_run(folder / VALID) for folder in runs])
    (comparison,) = compared["comparisons"]
    a, b = (read_fold(plan_runs(plan.setting(s), plan)[0], VALID).ratings for s in (("optim.lr=1e-05",), ()))
    own = [np.mean([ccc(r.targets[:, i], r.predicted[:, i]) for i in range(2)]) for r in (a, b)]
    assert (comparison["ccc"]["a"], comparison["ccc"]["b"]) == pytest.approx(own)
    assert comparison["ccc"]["better"] == 0 and comparison["ccc"]["worse"] == comparison["n_speakers"]
    valence = comparison["dimensions"]["valence"]
    assert valence["difference"] == pytest.approx(
        ccc(a.targets[:, 1], a.predicted[:, 1]) - ccc(b.targets[:, 1], b.predicted[:, 1])
    )
    speaker = b.speaker_ids[0]
    rows = np.array([name == speaker for name in b.speaker_ids])
    expected = np.mean([ccc(b.targets[rows, i], b.predicted[rows, i]) for i in range(2)])
    assert comparison["per_speaker"][speaker]["ccc_b"] == pytest.approx(expected)
    text = format_comparison(compared)
    assert "mean CCC" in text and "CCC of valence" in text and "UAR" not in text
    assert "Validation mean CCC by epoch" in text and "By speaker, mean CCC" in text
    assert f"{comparison['ccc']['difference']:+.3f}" in markdown_comparison(compared)
    page = comparison_page(compared, Reproduction())
    assert "CCC of valence" in page and "UAR" not in page


@pytest.mark.parametrize("labels", [(), ("angry", "happy")])
def test_an_exported_file_gives_the_dimensions_of_the_checkpoint_and_nan_for_silence(labels, config_of, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    config, dimensions = config_of(*(BOTH if labels else DIMENSIONS)), (("arousal", 1, 7), ("valence", 1, 5))
    torch.manual_seed(0)
    recognizer = Recognizer(
        config.features, config.model, labels, RATE, dimensions=tuple(Dimension(*d) for d in dimensions)
    )
    predictor = Predictor(recognizer.eval(), config)
    assert export_onnx(predictor, tmp_path / "model.onnx").max_difference < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [output.name for output in session.get_outputs()] == ["probabilities", "dimensions"][not labels :]
    clip = speechlike(0.8, 150, 5)
    [values] = session.run(["dimensions"], {"waveform": clip[None]})
    assert values[0] == pytest.approx([*predictor(clip, RATE).dimensions.values()], abs=1e-3)
    assert all(np.isnan(result).all() for result in session.run(None, {"waveform": 0 * clip[None]}))
    metadata = json.loads(session.get_modelmeta().custom_metadata_map["dimensions"])
    assert metadata == [{"name": name, "low": low, "high": high} for name, low, high in dimensions]


def test_the_metadata_hold_the_dimensions_and_a_forged_range_is_refused(predicting, tmp_path):
    saved = checkpoint.load_run_checkpoint(predicting)
    assert [d["name"] for d in saved.metadata["dimensions"]] == ["arousal", "valence"] and saved.metadata[
        "labels"
    ] == []
    plain = {name: value for name, value in saved.metadata.items() if name not in ("format", "sha256")}
    arousal, valence = plain["dimensions"]
    forged = {
        "low is not below high": [{**arousal, "high": arousal["low"]}, valence],
        "a name is there twice": [arousal, arousal],
        "labels: 0 of them": [],
        "not those of its data.tasks": [arousal],
        "number": [{**arousal, "low": "x"}, valence],
    }
    for message, dimensions in forged.items():
        checkpoint.save(tmp_path / "forged.safetensors", saved.tensors, {**plain, "dimensions": dimensions})
        with pytest.raises(CheckpointError, match=message):
            checkpoint.load_run_checkpoint(tmp_path / "forged.safetensors")


def test_a_resumed_run_of_dimensions_ends_with_the_same_bits(rated, config_of, tmp_path):
    longer = config_of(*DIMENSIONS, "optim.schedule=constant", "train.epochs=4")
    whole = fit(longer, tmp_path / "whole", progress=False)
    fit(config_of(*DIMENSIONS, "optim.schedule=constant", "train.epochs=2"), tmp_path / "parts", progress=False)
    parts = fit(longer, tmp_path / "parts", resume=True, progress=False)
    one, two = (checkpoint.load(run.checkpoint).tensors for run in (whole, parts))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_other_ratings_are_another_run(rated, config_of, tmp_path):
    config = config_of(*DIMENSIONS, "optim.schedule=constant", "train.epochs=1")
    fit(config, tmp_path / "run", progress=False)
    rated(lambda n, u: {"dimensions": tuple((name, 2 * value) for name, value in u.dimensions)})
    with pytest.raises(ConfigError, match="this is not the run that was saved"):
        fit(config, tmp_path / "run", resume=True, progress=False)


def test_emotions_and_dimensions_are_learned_together_where_each_clip_lacks_one_of_them(rated, config_of, tmp_path):
    """Of three clips one has a label only, one ratings only, and one both."""

    def change(n, u):
        given = {"dimensions": ()} if n % 3 == 0 else {}
        return given | ({"emotion": "other"} if n % 3 == 1 else {})

    rated(change)
    config = config_of(*BOTH, "data.label_map={other: null}", "train.select=loss", "augment.mixup=0.1")
    dataset = load_dataset(config.data, progress=False)
    assert dataset.has_class.sum() == 64 and (~np.isnan(dataset.ratings[:, 0])).sum() == 64
    assert "32 of 96 clips have ratings and no class" in dataset.notes
    run = fit(config, tmp_path / "run", progress=False)
    assert run.kept["valid"]["uar"] > 0.7 and run.kept["valid"]["ccc"] > 0.8
    evaluation = evaluate(run.checkpoint, progress=False)
    assert evaluation.uar > 0.7 and evaluation.ccc > 0.8  # guessing would give 0.33 and 0
    assert evaluation.scores["n_clips"] == 16 and evaluation.scores["dimensions"]["arousal"]["n_clips"] == 16
    prediction = Predictor.load(run.checkpoint, "cpu")(next(config_root(config).glob("*.wav")))
    assert prediction.label in ("neutral", "happy", "angry") and set(prediction.dimensions) == {"arousal", "valence"}


def config_root(config) -> Path:
    return Path(config.data.root)


def test_a_clip_without_a_label_changes_no_loss_of_classes(config_of):
    from serx.recognizer import Dimension
    from serx.training.epoch import _losses
    from serx.training.sampling import TrainingClips
    from serx.training.state import TrainingState

    state = TrainingState(
        config_of(*BOTH, "train.label_smoothing=0.2"), ("a", "b"), torch.device("cpu"), False, (Dimension("x", 0, 1),)
    )
    shares = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    training = TrainingClips(np.arange(3), np.array([0, 1, 0]), torch.ones(2), shares=shares, ratings=torch.rand(3, 1))
    outputs = torch.randn(3, 1, 3, requires_grad=True)
    columns = training.target_columns(torch.tensor([0, 1, 0]), torch.arange(3))
    _losses(state, training, outputs[..., :2], outputs[..., 2:], columns).sum().backward()
    assert not outputs.grad[2, :, :2].any() and outputs.grad[:2, :, :2].all() and outputs.grad[:, :, 2].all()


def test_the_weight_of_dimensions_scales_their_gradient_alone(config_of):
    from serx.recognizer import Dimension
    from serx.training.epoch import _losses
    from serx.training.sampling import TrainingClips
    from serx.training.state import TrainingState

    ratings, outputs, gradients = torch.rand(4, 1), torch.randn(4, 2, 3), []
    for weight in (1, 3):
        config = config_of(*BOTH, f"train.dimension_weight={weight}")
        state = TrainingState(config, ("a", "b"), torch.device("cpu"), False, (Dimension("x", 0, 1),))
        training = TrainingClips(np.arange(4), np.array([0, 1, 0, 1]), torch.ones(2), ratings=ratings)
        own = outputs.clone().requires_grad_()
        columns = training.target_columns(torch.tensor([0, 1, 0, 1]), torch.arange(4))
        _losses(state, training, own[..., :2], own[..., 2:], columns).sum().backward()
        gradients.append(own.grad)
    torch.testing.assert_close(gradients[1][..., :2], gradients[0][..., :2])
    torch.testing.assert_close(gradients[1][..., 2:], 3 * gradients[0][..., 2:])


def test_members_and_speeds_average_dimensions_as_they_are_and_emotions_as_probabilities():
    from serx.features.stack import FeaturesConfig
    from serx.models import MlpConfig

    torch.manual_seed(0)
    model = MlpConfig(ensemble_size=3, tta_speeds=(0.9, 1.1))
    recognizer = Recognizer(FeaturesConfig(), model, ("a", "b"), RATE, dimensions=(Dimension("x", 2, 4),)).eval()
    waveform, lengths = 0.1 * torch.randn(2, RATE), torch.tensor([RATE, RATE // 2])
    probabilities, values = recognizer.predictions(waveform, lengths)
    seen = []
    hook = recognizer.backbone.members[0].register_forward_hook(lambda *given: seen.append(given[1:]))
    recognizer.predictions(waveform, lengths)
    hook.remove()
    assert len(seen) == 2  # speeds
    with torch.inference_mode():
        outputs = [torch.stack([m(*inputs) for m in recognizer.backbone.members]) for inputs, _ in seen]
    torch.testing.assert_close(values, 2 + 2 * torch.stack([o[..., 2:].mean(0) for o in outputs]).mean(0))
    logs = torch.stack([o[..., :2].softmax(-1).mean(0).log() for o in outputs]).mean(0)
    torch.testing.assert_close(probabilities, logs.softmax(-1))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.tasks=[dimensions]"], "data.dimensions names none"),
        (["data.dimensions=[arousal]"], "data.dimensions has no effect"),
        ([*DIMENSIONS, "train.select=uar"], "train.select is uar"),
        (["train.select=ccc"], "train.select is ccc"),
        ([*DIMENSIONS, "train.sampling=class_balanced"], "draws by emotion"),
        ([*DIMENSIONS, "model={kind: classical}"], "learns emotions only"),
        ([*BOTH, "model.adapt=true"], "model.adapt adjusts"),
        (["data.tasks=[dimensions, dimensions]", "data.dimensions=[arousal]"], "lists dimensions twice"),
        (["data.tasks=[dimensions]", "data.dimensions=[arousal, arousal]"], "lists a name twice"),
    ],
)
def test_settings_that_contradict_the_tasks_are_one_line(overrides, message, config_of):
    with pytest.raises(ConfigError, match=message) as caught:
        config_of(*overrides)
    assert len(str(caught.value).splitlines()) == 1


def test_ratings_that_teach_nothing_are_errors(rated, config_of, tmp_path):
    with pytest.raises(DataError, match="no clip has a rating of dominance; the data rate arousal, valence"):
        load_dataset(config_of("data.tasks=[dimensions]", "data.dimensions=[dominance]").data, progress=False)
    rated(lambda n, u: {"dimensions": (("arousal", 3.0),)})
    one = "data.tasks=[dimensions]", "data.dimensions=[arousal]"
    with pytest.raises(DataError, match="nothing to learn about arousal from the training clips: all are rated 3"):
        fit(config_of(*one), tmp_path / "run", progress=False)
    rated(lambda n, u: {"dimensions": (("arousal", float("nan")),)})
    with pytest.raises(DataError, match=r"\.wav: arousal nan is not a number"):
        load_dataset(config_of(*one).data, progress=False)
    rated(lambda n, u: {"dimensions": () if u.speaker in ("05", "06") else (("arousal", float(n)),)})
    with pytest.raises(DataError, match="no validation clip has a rating of arousal"):
        fit(config_of(*one, "data.valid_fraction=0.2", *(["data.tasks=[emotions, dimensions]"])), tmp_path / "two",
            progress=False)  # fmt: skip


def test_clips_without_a_rating_are_dropped_and_counted(rated, config_of):
    rated(lambda n, u: {"dimensions": u.dimensions[: n % 3]})
    dataset = load_dataset(config_of(*DIMENSIONS).data, progress=False)
    assert len(dataset.targets) == 64 and dataset.labels == ()
    assert "dropped: 32 clips without a rating of arousal, valence" in dataset.notes
    assert "32 of 64 clips have no rating of valence" in dataset.notes


def test_the_command_trains_dimensions_and_says_which_epoch_is_kept(rated, config_of, tmp_path):
    config_of()  # writes rated.yaml
    arguments = "--config", tmp_path / "rated.yaml", *DIMENSIONS, "train.epochs=2", f"train.output={tmp_path / 'run'}"
    done = run_here("train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "(the best mean validation CCC), mean validation CCC" in done.stdout and "warning" not in done.stdout
    done = run_here("evaluate", "--checkpoint", tmp_path / "run" / "best.safetensors", cwd=tmp_path)
    assert done.returncode == 0 and "mean CCC" in done.stdout and "ratings.csv, curves.png" in done.stdout


def test_several_processes_are_refused_since_the_loss_is_of_whole_batches(config_of):
    with pytest.raises(ConfigError, match="train in one process"):
        check_one_process(config_of(*DIMENSIONS), SimpleNamespace(joined=True))
    check_one_process(config_of(), SimpleNamespace(joined=True))
    check_one_process(config_of(*DIMENSIONS), SimpleNamespace(joined=False))


def test_classes_drawn_evenly_never_draw_clips_without_one(rated, config_of, tmp_path):
    rated(lambda n, u: {"emotion": "other"} if n % 3 == 1 else {})
    config = config_of(*BOTH, "data.label_map={other: null}", "train.sampling=class_balanced")
    with pytest.raises(DataError, match="would never draw clips without a class"):
        fit(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / METRICS).exists()


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [DIMENSIONS, BOTH], ids=["dimensions", "both"])
def test_the_leakage_lesson_scores_dimensions_by_their_mean_ccc(rated, config_of, tmp_path, tasks):
    config = config_of(*tasks, "train.epochs=1")
    lesson, code = run_leakage_lesson(config, tmp_path / "lesson", 1, progress=False)
    assert code == 0 and [case["speaker_independent"] for case in lesson["cases"]] == [False, False, False, True]
    last = lesson["cases"][3]
    assert ("accuracy" in last) == (tasks is BOTH) and last["n_test"] == last["n_clips"] == 24
    evaluation = evaluate(tmp_path / "lesson/3-speakers/best.safetensors", progress=False)
    assert evaluation.ccc == pytest.approx(last["ccc"], abs=1e-6)
    assert last["ccc"] == pytest.approx(np.mean([last["dimensions"][n]["ccc"] for n in ("arousal", "valence")]))
    text = format_lesson(lesson)
    assert ("CCC" in text, "accuracy" in text) == (True, tasks is BOTH)
    assert f"{last['ccc']:.3f}" in text and max(map(len, text.splitlines())) <= 100
    assert (tmp_path / "lesson/leakage.png").read_bytes().startswith(b"\x89PNG")


def test_a_copy_of_a_clip_has_its_ratings(rated, config_of):
    dataset = load_dataset(config_of(*DIMENSIONS).data, progress=False)
    copied = with_copies(dataset, COPIES[:1], RATE, 0, progress=False)
    np.testing.assert_array_equal(copied.ratings, np.tile(dataset.ratings, (2, 1)))
