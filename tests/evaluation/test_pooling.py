"""Pooled figures against scikit-learn, seeds as seeds and not as people, stamps that stay said."""

import numpy as np
import pytest
from sklearn import metrics as sk

from serx.errors import DataError
from serx.evaluation.pooling import (
    FoldResult,
    complete_seeds,
    format_cross_validation,
    read_cross_validation,
    stamp_of,
    summarize_folds,
    write_cross_validation,
)
from serx.evaluation.predictions import Predictions, from_csv, join, to_csv
from serx.evaluation.scores import evaluate
from tests.evaluation.test_report import make


def part(p: Predictions, speaker_ids) -> Predictions:
    """The clips of some persons."""
    mine = [i for i, speaker_id in enumerate(p.speaker_ids) if speaker_id in speaker_ids]
    fields = {
        name: tuple(getattr(p, name)[i] for i in mine) for name in ("paths", "speaker_ids", "sexes", "intensities")
    }
    return Predictions(**fields, targets=p.targets[mine], probabilities=p.probabilities[mine], labels=p.labels)


def folded(p: Predictions, seed=0, folds=((0, 1), (2,), (3, 4)), stamp="made fold {}, speaker-independent"):
    return [
        FoldResult(seed, k, stamp.format(k), part(p, {f"made/{speaker_id:02d}" for speaker_id in speaker_ids}))
        for k, speaker_ids in enumerate(folds)
    ]


def test_pooled_figures_are_those_of_all_clips_together():
    p = make()
    result = summarize_folds(folded(p))
    whole = evaluate(p, result["protocol"])
    for name in ("accuracy", "uar", "macro_f1", "weighted_f1", "per_sex", "per_intensity", "sex_gap_accuracy",
                 "per_speaker", "confusion", "n_clips", "per_class"):  # fmt: skip
        assert (
            result[name] == pytest.approx(whole[name])
            if isinstance(result[name], float)
            else (result[name] == whole[name])
        ), name
    for name in ("accuracy", "uar", "macro_f1", "weighted_f1"):
        assert result["intervals"][name] == pytest.approx(whole["intervals"][name])
    assert result["protocol"] == "made folds 0-2, speaker-independent"


def test_every_fold_is_scored_by_itself():
    p = make()
    result = summarize_folds(folded(p))
    for k, speaker_ids in enumerate((("made/00", "made/01"), ("made/02",), ("made/03", "made/04"))):
        mine = part(p, speaker_ids)
        guesses = mine.probabilities.argmax(1)
        fold = result["folds"][k]
        assert fold["uar"] == pytest.approx(sk.balanced_accuracy_score(mine.targets, guesses))
        assert fold["macro_f1"] == pytest.approx(sk.f1_score(mine.targets, guesses, average="macro"))
        assert fold["speakers"] == list(speaker_ids)
    uars = [fold["uar"] for fold in result["folds"]]
    assert result["per_fold"]["uar"] == pytest.approx(uars)
    assert result["fold_mean"]["uar"] == pytest.approx(np.mean(uars))
    assert result["fold_std"]["uar"] == pytest.approx(np.std(uars, ddof=1))


def test_figures_of_several_seeds_are_their_means():
    runs = [make(seed=seed) for seed in (3, 5)]
    result = summarize_folds([t for seed, p in zip((3, 5), runs, strict=True) for t in folded(p, seed)])
    for name in ("accuracy", "uar", "macro_f1"):
        each = [evaluate(p, "p")[name] for p in runs]
        assert [s[name] for s in result["seeds"]] == pytest.approx(each)
        assert result[name] == pytest.approx(np.mean(each))
    assert result["n_clips"] == 160 and result["n_speakers"] == 5
    assert result["protocol"].endswith(", 2 seeds")
    text = format_cross_validation(result)
    assert "By seed" in text and max(map(len, text.splitlines())) <= 100


def test_a_seed_is_no_second_person():
    """The same predictions under three seeds say no more than once: the interval stays as wide."""
    p = make()
    once = summarize_folds(folded(p))
    thrice = summarize_folds([t for seed in range(3) for t in folded(p, seed)])
    for name in ("accuracy", "uar", "macro_f1"):
        assert thrice["intervals"][name] == pytest.approx(once["intervals"][name])


def test_a_leak_in_any_fold_stays_said():
    p = make()
    tested = folded(p)
    tested[1] = FoldResult(0, 1, "made fold 1, LEAKY: speakers shared between train and test", tested[1].predictions)
    assert stamp_of(tested) == ("made folds 0-2, speaker-independent, LEAKY: speakers shared between train and test")
    text = format_cross_validation(summarize_folds(tested))
    assert all("LEAKY" in " ".join(text.splitlines()[i : i + 2]) for i in (0,))
    assert text.count("LEAKY") > 4
    only = [FoldResult(0, 0, "random, LEAKY: speakers shared between train and test", p)]
    assert summarize_folds(only)["protocol"] == "random, LEAKY: speakers shared between train and test"
    assert stamp_of([tested[0], tested[2]]).startswith("made folds 0, 2,")


def test_a_clip_tested_twice_is_refused():
    p = make()
    with pytest.raises(DataError, match="share clips"):
        summarize_folds([FoldResult(0, 0, "a fold 0", p), FoldResult(0, 1, "a fold 1", part(p, {"made/00"}))])
    with pytest.raises(DataError, match="no fold"):
        summarize_folds([])
    with pytest.raises(DataError, match="cannot be scored together"):
        join([p, make(2, ("x", "y"))])


def test_the_files_read_back_to_the_same_summary(tmp_path):
    tested = [t for seed in (0, 1) for t in folded(make(seed=seed), seed)]
    summary = write_cross_validation(tmp_path / "out", tested, {"skipped": ["fold 3: nobody"], "failed": []})
    again = summarize_folds(read_cross_validation(tmp_path / "out"))
    assert {name: summary[name] for name in again} == again
    assert "skipped: fold 3: nobody" in format_cross_validation(summary)
    with pytest.raises(DataError, match="no finished cross-validation"):
        read_cross_validation(tmp_path)


def test_predictions_survive_their_csv_to_the_bit(tmp_path):
    p = make(intensities=(None, "strong") * 80, sexes=(None,) * 160)
    (tmp_path / "p.csv").write_bytes(to_csv([((7,), p)], ["seed"]))
    [(group, again)] = from_csv(tmp_path / "p.csv", ["seed"])
    assert group == ("7",)
    np.testing.assert_array_equal(again.probabilities.astype(np.float32), p.probabilities)
    np.testing.assert_array_equal(again.targets, p.targets)
    assert (again.paths, again.speaker_ids, again.sexes, again.intensities) == (
        p.paths,
        p.speaker_ids,
        p.sexes,
        p.intensities,
    )
    for spoilt in ("", "path,emotion\na,b\n", (tmp_path / "p.csv").read_text().replace("happy", "joy", 3)):
        (tmp_path / "bad.csv").write_text(spoilt)
        with pytest.raises(DataError, match="evaluate again"):
            from_csv(tmp_path / "bad.csv", ["seed"])


def test_where_voices_are_enrolled_the_figures_without_stand_beside():
    stamp = "made fold {}, speaker-independent; ADAPTED to each speaker with 40 unlabeled clips"
    tested = [
        FoldResult(t.seed, t.fold, t.stamp, t.predictions, {"uar": 0.1 * k, "accuracy": 0.5})
        for k, t in enumerate(folded(make(), stamp=stamp))
    ]
    result = summarize_folds(tested)
    assert "ADAPTED to each speaker with 40 unlabeled clips" in result["protocol"]
    assert [fold["alone"]["uar"] for fold in result["folds"]] == [0, 0.1, 0.2]
    text = format_cross_validation(result)
    assert "heard by itself: UAR 10.0 %, accuracy 50.0 %" in " ".join(text.split())
    assert "heard by itself" not in format_cross_validation(summarize_folds(folded(make())))


def test_what_differs_from_fold_to_fold_is_said_once_of_all():
    p, clause = make(), "ADAPTED to each speaker with"
    adapted = [
        f"cross_corpus fold 0, speaker-independent, cremad held out; {clause} 24 unlabeled clips",
        f"cross_corpus fold 1, speaker-independent, tess held out; {clause} 5 to 12 unlabeled clips",
    ]
    tested = [
        FoldResult(0, 0, adapted[0], part(p, {"made/00", "made/01"})),
        FoldResult(0, 1, adapted[1], part(p, {"made/02", "made/03", "made/04"})),
    ]
    together = "cross_corpus folds 0-1, speaker-independent, cremad, tess held out in turn"
    assert stamp_of(tested) == f"{together}, {clause} 5 to 24 unlabeled clips"
    assert "fold 1 (made)" in format_cross_validation(summarize_folds(tested))
    assert stamp_of(tested[:1]) == (
        f"cross_corpus fold 0, speaker-independent, cremad held out, {clause} 24 unlabeled clips"
    )


def test_only_seeds_of_the_same_folds_are_averaged():
    whole, begun = folded(make()), folded(make(seed=1), 1)[:1]
    even, waiting = complete_seeds([*whole, *begun])
    assert even == whole and waiting == ["seed 1, which has only fold 0 yet"]
    assert complete_seeds([*whole, *folded(make(seed=1), 1)])[1] == [] and complete_seeds([]) == ([], [])
    with pytest.raises(DataError, match="different folds"):
        summarize_folds([*whole, *begun])
