"""The report: ratios and targets from timings, as JSON for programs and a page for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .timing import Timing

SCHEMA = 1


@dataclass(frozen=True)
class Target:
    """What a stage is to reach: `figure` is times as fast as `peer`, or a unit of its own with `peer` None."""

    stage: str
    figure: float
    peer: str | None = None
    unit: str = "x"  # "x", "ms a batch", "clips/s" or "MB a batch"
    device: str = "cpu"


TARGETS = (
    Target("logmel", 3, "librosa"),
    Target("logmel", 1.5, "torchaudio"),
    Target("mfcc", 3, "librosa"),
    Target("mfcc", 1.5, "torchaudio"),
    Target("pitch_shift", 5, "librosa"),
    Target("pitch_shift", 40, "torch-audiomentations"),
    Target("time_stretch", 5, "librosa"),
    Target("warp_fused", 25, "librosa"),
    Target("chain_fused", 15, "librosa"),
    Target("published", 5, "librosa"),
    Target("chain_waveform", 500, unit="MB a batch"),
    Target("recipe_front", 3, unit="ms a batch", device="cuda"),
    Target("chain_fused", 3, unit="ms a batch", device="cuda"),
    Target("step", 20_000, unit="clips/s", device="cuda"),
)


@dataclass(frozen=True)
class Row:
    """A stage's timings, tool by tool, and what broke down."""

    name: str
    group: str
    about: str
    timings: dict[str, Timing]
    failed: dict[str, str]


def ratios(timings: Mapping[str, Timing]) -> dict[str, float]:
    """How many times longer each tool takes than serx, median by median."""
    return {tool: t.median / timings["serx"].median for tool, t in timings.items() if tool != "serx"}


def shares(rows: Sequence[Row], parts: Sequence[str], whole: str = "step") -> dict[str, float]:
    """Each part's share of the whole step, and that of the `rest`; empty unless all were measured."""
    medians = {row.name: row.timings["serx"].median for row in rows}
    if not {*parts, whole} <= medians.keys():
        return {}
    found = {part: medians[part] / medians[whole] for part in parts}
    return found | {"rest": 1 - sum(found.values())}


def judge(rows: Sequence[Row], memory: Mapping[str, Mapping[str, float]], device: str, clips: int) -> list[dict]:
    """The targets of this device: measured or not (None), met or not."""
    judged = []
    for target in TARGETS:
        if target.device != device:
            continue
        timings = next((row.timings for row in rows if row.name == target.stage), {})
        measured: float | None = None
        if target.unit == "MB a batch":
            measured = memory[target.stage]["batch"] if target.stage in memory else None
        elif target.peer is not None:
            measured = ratios(timings).get(target.peer) if timings else None
        elif timings:
            median = timings["serx"].median
            measured = 1 / median if target.unit == "clips/s" else median * clips * 1e3
        small = target.unit in ("MB a batch", "ms a batch")
        met = None if measured is None else measured <= target.figure if small else measured >= target.figure
        judged.append({**asdict(target), "measured": measured, "met": met})
    return judged


def as_json(metadata: Mapping[str, Any], rows: Sequence[Row], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The whole report; its keys stay."""
    stages = {
        row.name: {
            "group": row.group,
            "about": row.about,
            "tools": {tool: _tool(timing) for tool, timing in row.timings.items()},
            "ratios": ratios(row.timings),
            "failed": row.failed,
        }
        for row in rows
    }
    return {"schema": SCHEMA, **metadata, "stages": stages, **extra}


def _tool(timing: Timing) -> dict[str, float]:
    return {
        "ms_per_clip": timing.median * 1e3,
        "fastest_ms": timing.fastest * 1e3,
        "slowest_ms": timing.slowest * 1e3,
        "clips_per_second": 1 / timing.median,
        "clips": timing.clips,
    }


def write(folder: Path, name: str, report: Mapping[str, Any]) -> tuple[Path, Path]:
    """Writes `name.json` and `name.md` into the folder."""
    from .page import page

    folder.mkdir(parents=True, exist_ok=True)
    json_path, page_path = folder / f"{name}.json", folder / f"{name}.md"
    json_path.write_text(json.dumps(report, indent=1) + "\n")
    page_path.write_text(page(report))
    return page_path, json_path
