"""The report: ratios and targets from timings, as a JSON file and a page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .page import page
from .timing import Timing

SCHEMA = 2


@dataclass(frozen=True)
class Target:
    """What a stage should reach on a device.

    Attributes:
        value: how many times faster than `baseline`, or in `unit` if `baseline` is None.
        unit: "x", "ms per batch", "clips/s" or "MB per batch".
    """

    stage: str
    value: float
    baseline: str | None = None
    unit: str = "x"
    device: str = "cpu"

    @property
    def at_most(self) -> bool:
        """Whether less is better."""
        return self.unit in ("MB per batch", "ms per batch")


TARGETS = (
    Target("logmel", 3, "librosa"),
    Target("logmel", 1.5, "torchaudio"),
    Target("mfcc", 3, "librosa"),
    Target("mfcc", 1.5, "torchaudio"),
    Target("pitch_shift", 5, "librosa"),
    Target("pitch_shift", 40, "torch-audiomentations"),
    Target("time_stretch", 5, "librosa"),
    Target("logmel_mel_warp", 25, "librosa"),
    Target("mfcc_mel_warp", 15, "librosa"),
    Target("published", 5, "librosa"),
    Target("mfcc_two_passes", 500, unit="MB per batch"),
    Target("recipe_front", 3, unit="ms per batch", device="cuda"),
    Target("mfcc_mel_warp", 3, unit="ms per batch", device="cuda"),
    Target("step", 20_000, unit="clips/s", device="cuda"),
)


@dataclass(frozen=True)
class Row:
    """A stage: its timing with each library, and the libraries that failed with their reasons."""

    name: str
    group: str
    about: str
    timings: dict[str, Timing]
    failed: dict[str, str]


def ratios(timings: Mapping[str, Timing]) -> dict[str, float]:
    """How many times longer than serx each other library takes, by medians."""
    ours = timings["serx"].median
    return {library: timing.median / ours for library, timing in timings.items() if library != "serx"}


def judge(rows: Sequence[Row], memory: Mapping[str, Mapping[str, float]], device: str, clips: int) -> list[dict]:
    """The targets of this device, each with what was measured and whether it is met; None if not measured."""
    judged = []
    for target in TARGETS:
        if target.device != device:
            continue
        timings = next((row.timings for row in rows if row.name == target.stage), {})
        measured: float | None = None
        if target.unit == "MB per batch":
            measured = memory[target.stage]["batch"] if target.stage in memory else None
        elif target.baseline is not None:
            measured = ratios(timings).get(target.baseline) if timings else None
        elif timings:
            median = timings["serx"].median
            measured = 1 / median if target.unit == "clips/s" else median * clips * 1e3
        reached = measured is not None and (measured <= target.value if target.at_most else measured >= target.value)
        met = None if measured is None else reached
        judged.append({**asdict(target), "at_most": target.at_most, "measured": measured, "met": met})
    return judged


def as_json(metadata: Mapping[str, Any], rows: Sequence[Row], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The report. Programs read it: a change of keys or stage names is a new SCHEMA."""
    stages = {
        row.name: {
            "group": row.group,
            "about": row.about,
            "libraries": {library: _numbers(timing) for library, timing in row.timings.items()},
            "ratios": ratios(row.timings),
            "failed": row.failed,
        }
        for row in rows
    }
    return {"schema": SCHEMA, **metadata, "stages": stages, **extra}


def _numbers(timing: Timing) -> dict[str, float]:
    return {
        "ms_per_clip": timing.median * 1e3,
        "fastest_ms": timing.fastest * 1e3,
        "slowest_ms": timing.slowest * 1e3,
        "clips_per_second": 1 / timing.median,
        "clips": timing.clips,
    }


def write(folder: Path, name: str, report: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes `name.json` and `name.md` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    json_path, page_path = folder / f"{name}.json", folder / f"{name}.md"
    json_path.write_text(json.dumps(report, indent=1) + "\n")
    page_path.write_text(page(report))
    return page_path, json_path
