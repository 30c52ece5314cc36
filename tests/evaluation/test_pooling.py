"""Folds pooled: scores agree with scikit-learn, a seed is not a speaker, and warnings in protocol stamps are kept."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sk

from serx import metrics
from serx.errors import DataError
from serx.evaluation.cross_validation_report import format_cross_validation, write_cross_validation
from serx.evaluation.finished_runs import read_cross_validation
from serx.evaluation.pooling import FoldResult, complete_seeds, pooled_protocol, summarize_folds
from serx.evaluation.predictions import Predictions, from_csv, join, to_csv
from serx.evaluation.ratings import Ratings, score_ratings
from serx.evaluation.scores import score_predictions
from tests.evaluation.test_report import random_predictions

ADAPTED = "made fold {}, speaker-independent; ADAPTED to each speaker with 40 unlabeled clips"


def clips_of(p: Predictions, speaker_ids) -> Predictions:
    """The predictions for the clips of these speakers."""
    own = [i for i, speaker_id in enumerate(p.speaker_ids) if speaker_id in speaker_ids]
    fields = {
        name: tuple(getattr(p, name)[i] for i in own) for name in ("paths", "speaker_ids", "sexes", "intensities")
    }
    return Predictions(**fields, targets=p.targets[own], probabilities=p.probabilities[own], labels=p.labels)


def fold_results(p: Predictions, seed=0, folds=((0, 1), (2,), (3, 4)), protocol="made fold {}, speaker-independent"):
    """The predictions divided into folds by speaker."""
    return [
        FoldResult(seed, k, protocol.format(k), clips_of(p, {f"made/{speaker_id:02d}" for speaker_id in speaker_ids}))
        for k, speaker_ids in enumerate(folds)
    ]


def test_pooled_scores_are_those_of_all_clips_together():
    p = random_predictions()
    result = summarize_folds(fold_results(p))
    whole = score_predictions(p, result["protocol"])
    for name in ("accuracy", "uar", "macro_f1", "weighted_f1", "per_sex", "per_intensity", "sex_gap_accuracy",
                 "per_speaker", "confusion", "n_clips", "per_class"):  # fmt: skip
        expected = pytest.approx(whole[name]) if isinstance(whole[name], float) else whole[name]
        assert result[name] == expected, name
    for name in ("accuracy", "uar", "macro_f1", "weighted_f1"):
        assert result["intervals"][name] == pytest.approx(whole["intervals"][name])
    assert result["protocol"] == "made folds 0-2, speaker-independent"


def test_each_fold_has_its_own_scores():
    p = random_predictions()
    result = summarize_folds(fold_results(p))
    for k, speaker_ids in enumerate((("made/00", "made/01"), ("made/02",), ("made/03", "made/04"))):
        own = clips_of(p, speaker_ids)
        predicted = own.probabilities.argmax(1)
        fold = result["folds"][k]
        assert fold["uar"] == pytest.approx(sk.balanced_accuracy_score(own.targets, predicted))
        assert fold["macro_f1"] == pytest.approx(sk.f1_score(own.targets, predicted, average="macro"))
        assert fold["speakers"] == list(speaker_ids)
    uars = [fold["uar"] for fold in result["folds"]]
    assert result["per_fold"]["uar"] == pytest.approx(uars)
    assert result["fold_mean"]["uar"] == pytest.approx(np.mean(uars))
    assert result["fold_std"]["uar"] == pytest.approx(np.std(uars, ddof=1))


def test_scores_of_several_seeds_are_means_over_seeds():
    runs = [random_predictions(seed=seed) for seed in (3, 5)]
    result = summarize_folds([t for seed, p in zip((3, 5), runs, strict=True) for t in fold_results(p, seed)])
    for name in ("accuracy", "uar", "macro_f1"):
        each = [score_predictions(p, "p")[name] for p in runs]
        assert [s[name] for s in result["seeds"]] == pytest.approx(each)
        assert result[name] == pytest.approx(np.mean(each))
    assert result["n_clips"] == 160 and result["n_speakers"] == 5
    assert result["protocol"].endswith(", 2 seeds")
    text = format_cross_validation(result)
    assert "By seed" in text and max(map(len, text.splitlines())) <= 100


def test_the_deviation_of_folds_and_that_of_all_runs_are_told_apart():
    runs = [random_predictions(seed=seed) for seed in (3, 5)]
    result = summarize_folds([t for seed, p in zip((3, 5), runs, strict=True) for t in fold_results(p, seed)])
    uar = np.array([fold["uar"] for fold in result["folds"]]).reshape(2, 3)  # seeds x folds
    assert result["fold_std"]["uar"] == pytest.approx(uar.mean(0).std(ddof=1))
    assert result["run_std"]["uar"] == pytest.approx(uar.std(ddof=1))
    text = format_cross_validation(result)
    joined, mean = " ".join(text.split()), f"UAR {100 * uar.mean():.1f} +- "
    folds = f"mean and standard deviation of the 3 folds, each the mean of 2 seeds: {mean}"
    every = f"mean and standard deviation of all 6 runs, 3 folds x 2 seeds: {mean}"
    assert f"{folds}{100 * uar.mean(0).std(ddof=1):.1f}," in joined
    assert f"{every}{100 * uar.std(ddof=1):.1f}," in joined
    lines = text.splitlines()
    head, *rows = lines[lines.index("UAR of every run, %") + 1 :][:4]
    assert head.split() == ["fold", "0", "fold", "1", "fold", "2", "mean"]
    assert [row.split()[0] for row in rows] == ["seed", "seed", "mean"]
    cells = [[float(cell) for cell in row.split()[-4:]] for row in rows]
    whole = np.vstack([uar, uar.mean(0)])
    np.testing.assert_allclose(cells, 100 * np.column_stack([whole, whole.mean(1)]), atol=0.051)


def test_one_seed_has_only_the_deviation_of_its_folds():
    text = " ".join(format_cross_validation(summarize_folds(fold_results(random_predictions()))).split())
    assert "standard deviation of the 3 folds: UAR" in text and "all 3 runs" not in text and "every run" not in text


def test_more_seeds_with_the_same_predictions_do_not_narrow_the_interval():
    p = random_predictions()
    once = summarize_folds(fold_results(p))
    thrice = summarize_folds([t for seed in range(3) for t in fold_results(p, seed)])
    for name in ("accuracy", "uar", "macro_f1"):
        assert thrice["intervals"][name] == pytest.approx(once["intervals"][name])


def test_a_leak_in_any_fold_is_in_the_pooled_protocol():
    p = random_predictions()
    results = fold_results(p)
    results[1] = FoldResult(0, 1, "made fold 1, LEAKY: speakers shared between train and test", results[1].predictions)
    assert pooled_protocol(results) == (
        "made folds 0-2, speaker-independent, LEAKY: speakers shared between train and test"
    )
    text = format_cross_validation(summarize_folds(results))
    assert "LEAKY" in text.splitlines()[1] and text.count("LEAKY") == 1
    only = [FoldResult(0, 0, "random, LEAKY: speakers shared between train and test", p)]
    assert summarize_folds(only)["protocol"] == "random, LEAKY: speakers shared between train and test"
    assert pooled_protocol([results[0], results[2]]).startswith("made folds 0, 2,")


def test_folds_that_share_clips_are_refused():
    p = random_predictions()
    with pytest.raises(DataError, match="share clips"):
        summarize_folds([FoldResult(0, 0, "a fold 0", p), FoldResult(0, 1, "a fold 1", clips_of(p, {"made/00"}))])
    with pytest.raises(DataError, match="no fold"):
        summarize_folds([])
    with pytest.raises(DataError, match="cannot be scored together"):
        join([p, random_predictions(2, ("x", "y"))])


def test_the_files_read_back_to_the_same_summary(tmp_path):
    results = [t for seed in (0, 1) for t in fold_results(random_predictions(seed=seed), seed)]
    summary = write_cross_validation(tmp_path / "out", results, {"skipped": ["fold 3: no speaker"], "failed": []})
    again = summarize_folds(read_cross_validation(tmp_path / "out"))
    assert {name: summary[name] for name in again} == again
    assert "skipped: fold 3: no speaker" in format_cross_validation(summary)
    with pytest.raises(DataError, match="no finished cross-validation"):
        read_cross_validation(tmp_path)


def test_predictions_read_from_csv_are_equal_to_the_bit(tmp_path):
    p = random_predictions(intensities=(None, "strong") * 80, sexes=(None,) * 160)
    (tmp_path / "p.csv").write_bytes(to_csv([((7,), p)], ["seed"]))
    [(key, again)] = from_csv(tmp_path / "p.csv", ["seed"])
    assert key == ("7",)
    np.testing.assert_array_equal(again.probabilities.astype(np.float32), p.probabilities)
    np.testing.assert_array_equal(again.targets, p.targets)
    assert (again.paths, again.speaker_ids, again.sexes, again.intensities) == (
        p.paths,
        p.speaker_ids,
        p.sexes,
        p.intensities,
    )
    for damaged in ("", "path,emotion\na,b\n", (tmp_path / "p.csv").read_text().replace("happy", "joy", 3)):
        (tmp_path / "bad.csv").write_text(damaged)
        with pytest.raises(DataError, match="evaluate again"):
            from_csv(tmp_path / "bad.csv", ["seed"])


def test_adapted_folds_show_the_scores_without_adaptation_too():
    results = [
        FoldResult(t.seed, t.fold, t.protocol, t.predictions, {"uar": 0.1 * k, "accuracy": 0.5})
        for k, t in enumerate(fold_results(random_predictions(), protocol=ADAPTED))
    ]
    result = summarize_folds(results)
    assert "ADAPTED to each speaker with 40 unlabeled clips" in result["protocol"]
    assert [fold["without_adaptation"]["uar"] for fold in result["folds"]] == [0, 0.1, 0.2]
    text = format_cross_validation(result)
    assert "without speaker adaptation: UAR 10.0 %, accuracy 50.0 %" in " ".join(text.split())
    assert "without speaker adaptation" not in format_cross_validation(
        summarize_folds(fold_results(random_predictions()))
    )


def test_clauses_that_differ_between_folds_are_merged_in_the_pooled_protocol():
    p, clause = random_predictions(), "ADAPTED to each speaker with"
    adapted = [
        f"cross_corpus fold 0, speaker-independent, cremad held out; {clause} 24 unlabeled clips",
        f"cross_corpus fold 1, speaker-independent, tess held out; {clause} 5 to 12 unlabeled clips",
    ]
    results = [
        FoldResult(0, 0, adapted[0], clips_of(p, {"made/00", "made/01"})),
        FoldResult(0, 1, adapted[1], clips_of(p, {"made/02", "made/03", "made/04"})),
    ]
    together = "cross_corpus folds 0-1, speaker-independent, cremad, tess held out, one in each fold"
    assert pooled_protocol(results) == f"{together}, {clause} 5 to 24 unlabeled clips"
    assert "fold 1 (made)" in format_cross_validation(summarize_folds(results))
    assert pooled_protocol(results[:1]) == (
        f"cross_corpus fold 0, speaker-independent, cremad held out, {clause} 24 unlabeled clips"
    )


def test_the_table_of_loco_names_the_corpora_and_their_mean():
    p = random_predictions()
    stamp = "loco fold {}, speaker-independent, {} held out"
    halves = [clips_of(p, {"made/00", "made/01"}), clips_of(p, {"made/02", "made/03", "made/04"})]
    halves = [
        replace(half, speaker_ids=tuple(name.replace("made", corpus) for name in half.speaker_ids))
        for half, corpus in zip(halves, ("cremad", "tess"), strict=True)
    ]
    results = [
        FoldResult(seed, fold, stamp.format(fold, name), halves[fold])
        for seed in (0, 1)
        for fold, name in enumerate(("cremad", "tess"))
    ]
    summary = summarize_folds(results)
    assert summary["protocol"].startswith("loco folds 0-1, speaker-independent, cremad, tess held out, one in each")
    text = format_cross_validation(summary)
    table = text[text.index("By corpus left out, %") :].splitlines()
    assert [line.split()[0] for line in table[2:7]] == ["cremad", "tess", "cremad", "tess", "mean"]
    mean = np.mean([metrics.score(half.targets, half.predicted, half.labels).uar for half in halves])
    assert table[6].split()[1] == f"{100 * mean:.1f}"
    every_run = text[text.index("UAR of every run, %") :].splitlines()[1]
    assert every_run.split() == ["cremad", "tess", "mean"]


def test_only_seeds_with_the_same_folds_are_averaged():
    complete, begun = fold_results(random_predictions()), fold_results(random_predictions(seed=1), 1)[:1]
    results, incomplete = complete_seeds([*complete, *begun])
    assert results == complete and incomplete == ["seed 1, which has only fold 0 yet"]
    assert complete_seeds([*complete, *fold_results(random_predictions(seed=1), 1)])[1] == [] and complete_seeds(
        []
    ) == ([], [])
    with pytest.raises(DataError, match="different folds"):
        summarize_folds([*complete, *begun])


def made_ratings(seed: int) -> Ratings:
    """Arousal and valence of 60 clips of 6 speakers; one clip in ten has no valence."""
    random = np.random.default_rng(7)
    targets = random.uniform(1, 7, (60, 2))
    targets[::10, 1] = np.nan
    predicted = np.nan_to_num(targets, nan=4.0) + np.random.default_rng(seed).normal(0.3, 1.0, (60, 2))
    speakers = tuple(f"made/{n % 6:02d}" for n in range(60))
    sexes = tuple("female" if n % 2 else "male" for n in range(60))
    return Ratings(tuple(f"{n}.wav" for n in range(60)), speakers, sexes, ("arousal", "valence"), targets, predicted)


def rated_folds(seed: int, predictions=None) -> list[FoldResult]:
    r = made_ratings(seed)
    folds = []
    for k in range(3):
        own = [n for n in range(60) if n % 3 == k]
        part = Ratings(
            *(tuple(field[n] for n in own) for field in (r.paths, r.speaker_ids, r.sexes)),
            r.dimensions, r.targets[own], r.predicted[own],
        )  # fmt: skip
        folds.append(FoldResult(seed, k, f"made fold {k}, speaker-independent", None, ratings=part))
    return folds


def test_dimensions_of_all_folds_are_scored_together(tmp_path):
    r = made_ratings(3)
    result = write_cross_validation(tmp_path, rated_folds(3), {"complete": True})
    arousal, valence = (metrics.ccc(r.targets[ok, c], r.predicted[ok, c]) for c in range(2)
                        for ok in [~np.isnan(r.targets[:, c])])  # fmt: skip
    scores = result["dimensions"]
    assert [scores[name]["ccc"] for name in ("arousal", "valence")] == pytest.approx([arousal, valence])
    assert scores["mean"]["ccc"] == pytest.approx((arousal + valence) / 2)
    assert scores["valence"]["n_clips"] == 54 and result["n_clips"] == 60 and result["n_speakers"] == 6
    for name, bounds in score_ratings(r)["arousal"]["intervals"].items():
        assert scores["arousal"]["intervals"][name] == pytest.approx(bounds)
    each = [score_ratings(fold.ratings)["mean"]["ccc"] for fold in rated_folds(3)]
    assert result["per_fold"]["ccc"] == pytest.approx(each) and result["fold_std"].keys() == {"ccc"}
    text = format_cross_validation(result)
    assert f"CCC {np.mean(each):.3f} +- {np.std(each, ddof=1):.3f}" in text and "UAR" not in text and "%," not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cross_validation.json", "ratings.csv"]
    read = read_cross_validation(tmp_path)
    assert [(f.seed, f.fold, f.protocol, f.predictions, f.paths) for f in read] == [
        (f.seed, f.fold, f.protocol, None, f.paths) for f in rated_folds(3)
    ]
    assert summarize_folds(read)["dimensions"]["mean"]["ccc"] == pytest.approx(scores["mean"]["ccc"], abs=1e-6)


def test_dimensions_of_several_seeds_are_means_over_seeds_and_a_seed_is_no_speaker():
    one, two = (summarize_folds(rated_folds(seed))["dimensions"] for seed in (3, 5))
    both = summarize_folds([*rated_folds(3), *rated_folds(5)])
    for name in ("arousal", "valence"):
        assert both["dimensions"][name]["ccc"] == pytest.approx((one[name]["ccc"] + two[name]["ccc"]) / 2)
        assert both["dimensions"][name]["n_clips"] == one[name]["n_clips"]
    twice = summarize_folds([*rated_folds(3), *(replace(fold, seed=4) for fold in rated_folds(3))])
    assert twice["dimensions"]["arousal"]["intervals"]["ccc"] == pytest.approx(one["arousal"]["intervals"]["ccc"])
    assert "CCC of every run" in format_cross_validation(both)


def test_emotions_and_dimensions_are_pooled_side_by_side(tmp_path):
    p = random_predictions()
    folds = fold_results(p)
    rated = []
    for fold in folds:
        own = fold.emotions
        targets = np.arange(2.0 * len(own.paths)).reshape(-1, 2)
        ratings = Ratings(own.paths, own.speaker_ids, own.sexes, ("arousal", "valence"), targets, targets + 1)
        rated.append(replace(fold, ratings=ratings))
    result = write_cross_validation(tmp_path, rated, {})
    alone = summarize_folds(folds)
    assert {name: result[name] for name in ("uar", "confusion", "intervals")} == {
        name: alone[name] for name in ("uar", "confusion", "intervals")
    }
    assert result["fold_mean"].keys() == alone["fold_mean"].keys() | {"ccc"}
    assert [f.ratings is not None and f.predictions is not None for f in read_cross_validation(tmp_path)] == [True] * 3
    with pytest.raises(DataError, match="different data.tasks"):
        summarize_folds([*rated[:2], folds[2]])
