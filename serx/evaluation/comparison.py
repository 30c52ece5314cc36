"""Two runs on the same clips, speaker by speaker: is one better for people, or for these few clips?

Clips of one person are not independent evidence, so speakers are the units: the interval of the difference resamples
them (the same draw for both runs), and two tests ask whether more speakers gain than lose: Wilcoxon's signed-rank test
(Wilcoxon 1945) by how much, the sign test by how many.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serx import metrics
from serx.errors import DataError
from serx.evaluation.pooling import FoldResult, speaker_confusions, stamp_of
from serx.evaluation.predictions import Predictions, join
from serx.evaluation.stamps import is_adapted
from serx.evaluation.tables import percent, table, wrap
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, bootstrap_interval

COMPARED = {"uar": "UAR", "accuracy": "accuracy"}


def compare(a: Sequence[FoldResult], b: Sequence[FoldResult], resamples: int = RESAMPLES) -> dict[str, Any]:
    """The difference A - B of two cross-validations, ready for JSON; means over seeds throughout.

    Returns:
        `protocol` of each; for UAR and accuracy the `difference` of the pooled figures, its 95 % `interval` over
        speakers (None for a single one), `wilcoxon_p` and `sign_p` over speakers (two-sided; 1 where none differs)
        and how many speakers are `better` and `worse` under A; `per_speaker` figures and differences.

    Raises:
        DataError: the two tested different clips, or as other labels.
    """
    runs_a, runs_b = _by_seed(a), _by_seed(b)
    _refuse_others(runs_a, runs_b)
    counts = speaker_confusions([*runs_a, *runs_b])  # (S, seeds of A + seeds of B, C, C)
    speaker_ids, split = sorted(set(runs_a[0].speaker_ids)), len(runs_a)
    result: dict[str, Any] = {"protocol": {"a": stamp_of(a), "b": stamp_of(b)}, "n_speakers": len(speaker_ids)}
    per_speaker: dict[str, dict[str, float]] = {speaker_id: {} for speaker_id in speaker_ids}
    for name in COMPARED:
        difference = _difference(CONFUSION_METRICS[name], split)
        bounds = bootstrap_interval(counts, difference, resamples)
        scores = CONFUSION_METRICS[name](counts)  # (S, seeds of A + seeds of B)
        means = scores[:, :split].mean(1), scores[:, split:].mean(1)
        gains = np.round(means[0] - means[1], 12)  # so that equal counts are equal
        result[name] = {
            "a": float(CONFUSION_METRICS[name](counts[:, :split].sum(0)).mean()),
            "b": float(CONFUSION_METRICS[name](counts[:, split:].sum(0)).mean()),
            "difference": float(difference(counts.sum(0))),
            "interval": None if bounds is None else list(bounds),
            **_tests(gains),
        }
        for speaker_id, mine, yours, gain in zip(speaker_ids, *means, gains, strict=True):
            per_speaker[speaker_id] |= {f"{name}_a": float(mine), f"{name}_b": float(yours), name: float(gain)}
    return {**result, "per_speaker": per_speaker}


def format_comparison(result: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Tables for a terminal of 100 columns; `names` are those of A and B."""
    stamps = result["protocol"]
    lines = wrap(f"A: {names[0]} [{stamps['a']}]") + wrap(f"B: {names[1]} [{stamps['b']}]")
    if is_adapted(stamps["a"]) != is_adapted(stamps["b"]):
        known = "A" if is_adapted(stamps["a"]) else "B"
        lines += wrap(f"NOT ONE PROTOCOL: only {known} has heard each voice before; part of the difference is that")
    for name, title in COMPARED.items():
        r = result[name]
        interval = f"{100 * r['interval'][0]:+.1f} to {100 * r['interval'][1]:+.1f}" if r["interval"] else "no interval"
        lines += wrap(
            f"  {title}: A {100 * r['a']:.1f} %, B {100 * r['b']:.1f} %, A - B {100 * r['difference']:+.1f} points "
            f"(95 %: {interval}, over {result['n_speakers']} speakers)"
        )
        lines += wrap(
            f"    better for {r['better']}, worse for {r['worse']} speakers; "
            f"Wilcoxon p {_small(r['wilcoxon_p'])}, sign test p {_small(r['sign_p'])}"
        )
    ranked = sorted(result["per_speaker"].items(), key=lambda item: (item[1]["uar"], item[0]))
    rows = [[name, *(percent(s[key]) for key in ("uar_a", "uar_b")), f"{100 * s['uar']:+.1f}"] for name, s in ranked]
    return "\n".join(lines + table("By speaker, UAR in %", ["", "A", "B", "A - B"], rows)) + "\n"


def _small(p: float) -> str:
    """To three digits; no chance is none at all."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _by_seed(tested: Sequence[FoldResult]) -> list[Predictions]:
    seeds = sorted({t.seed for t in tested})
    return [join([t.predictions for t in tested if t.seed == seed]) for seed in seeds]


def _refuse_others(a: Sequence[Predictions], b: Sequence[Predictions]) -> None:
    """Clips are known by speaker and file name, so that a corpus may lie elsewhere; by path where names repeat."""
    if a[0].labels != b[0].labels:
        raise DataError(f"A tells {', '.join(a[0].labels)} apart and B {', '.join(b[0].labels)}: nothing to compare")
    known = [Counter(_clips(p, [Path(path).name for path in p.paths])) for p in (*a, *b)]
    if any(count > 1 for clips in known for count in clips.values()):
        known = [Counter(_clips(p, p.paths)) for p in (*a, *b)]
    for other in known[1:]:
        if differing := (known[0] - other) + (other - known[0]):
            speaker_id, name, _ = min(differing)
            raise DataError(
                f"the two tested different clips ({sum(differing.values())} in one alone, such as {name} of {speaker_id}): "
                "compare runs of the same data, protocol and folds, both finished"
            )


def _clips(p: Predictions, names: Sequence[str]) -> list[tuple[str, str, int]]:
    return list(zip(p.speaker_ids, names, p.targets.tolist(), strict=True))


def _difference(metric: Callable[[np.ndarray], np.ndarray], split: int) -> Callable[[np.ndarray], np.ndarray]:
    """From counts `(..., runs, C, C)`, A's runs first, to mean of A less mean of B."""
    return lambda counts: metric(counts)[..., :split].mean(-1) - metric(counts)[..., split:].mean(-1)


def _tests(gains: np.ndarray) -> dict[str, Any]:
    from scipy import stats  # noqa: PLC0415 (0.5 s, for those who compare)

    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    if better + worse == 0:
        return {"better": 0, "worse": 0, "wilcoxon_p": 1.0, "sign_p": 1.0}
    return {
        "better": better,
        "worse": worse,
        "wilcoxon_p": float(stats.wilcoxon(gains).pvalue),
        "sign_p": float(stats.binomtest(better, better + worse).pvalue),
    }
