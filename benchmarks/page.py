"""The page: a report as Markdown tables."""

from collections.abc import Mapping
from typing import Any

SPREAD = 1.5  # slowest over fastest round, from which on a row is marked


def page(report: Mapping[str, Any]) -> str:
    """Conditions, targets, shares and memory, then a table for each group of stages."""
    parts = [_head(report), _targets(report), _shares(report), _memory(report)]
    groups = dict.fromkeys(stage["group"] for stage in report["stages"].values())
    parts += [_group(report, group) for group in groups]
    parts.append(_missing(report))
    return "\n".join(part for part in parts if part)


def _head(report: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"# Speed on {report['machine']}\n\n"
        f"Written by `{report['command']}` on {report['date']}; do not edit.\n\n"
        f"- device {report['device']}, {report['threads']} thread(s) of {report['cores']} cores; {report['clock']}\n"
        f"- {report['clips']} clips of {report['seconds']:g} s at 16 kHz: {report['source']}\n"
        f"- medians of {report['rounds']} rounds in which the libraries alternate, after a warm-up\n"
        f"- training step of {report['config']}\n"
        f"- {versions}\n"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _targets(report: Mapping[str, Any]) -> str:
    if not report["targets"]:
        return ""
    lines = ["## Targets\n", "| stage | compared with | target | measured | |", "|---|---|---|---|---|"]
    for target in report["targets"]:
        unit = "x" if target["unit"] == "x" else f" {target['unit']}"
        goal = f"{'<=' if target['at_most'] else '>='} {target['value']:g}{unit}"
        measured = "not measured" if target["measured"] is None else f"{_number(target['measured'])}{unit}"
        result = {True: "met", False: "**missed**", None: ""}[target["met"]]
        lines.append(f"| {target['stage']} | {target['baseline'] or ''} | {goal} | {measured} | {result} |")
    return "\n".join(lines) + "\n"


def _shares(report: Mapping[str, Any]) -> str:
    if not report["shares"]:
        return ""
    lines = ["## Where the time of a training step goes\n", "| part | share |", "|---|---|"]
    lines += [f"| {part} | {100 * share:.1f} % |" for part, share in report["shares"].items()]
    return "\n".join(lines) + (
        "\n\nParts and whole are measured within the same training steps, so the shares add up to 100 %. The rest is "
        "the learning rate, random seeds, targets, the copies of batch norm statistics and the sums of the epoch.\n"
    )


def _memory(report: Mapping[str, Any]) -> str:
    if not report["memory"]:
        return ""
    count = report["memory_clips"]
    lines = [f"## Peak memory of a batch of {count}\n", "| stage | batch, MB | process, MB |", "|---|---|---|"]
    lines += [f"| {name} | {peak['batch']:.0f} | {peak['process']:.0f} |" for name, peak in report["memory"].items()]
    return "\n".join(lines) + "\n"


def _group(report: Mapping[str, Any], group: str) -> str:
    stages = {name: stage for name, stage in report["stages"].items() if stage["group"] == group}
    used = (library for stage in stages.values() for library in stage["libraries"])
    others = [library for library in dict.fromkeys(used) if library != "serx"]
    lines = [
        f"## {group.capitalize()}\n",
        "Milliseconds per clip, and how many times longer than serx.\n" if others else "Milliseconds per clip.\n",
        "| | stage | serx, clips/s | serx, ms |" + "".join(f" {library} |" for library in others),
        "|---|---|---|---|" + "---|" * len(others),
    ]
    for name, stage in stages.items():
        ours = stage["libraries"]["serx"]
        noisy = " ~" if ours["slowest_ms"] > SPREAD * ours["fastest_ms"] else ""
        row = (
            f"| `{name}` | {stage['about']} | {_number(ours['clips_per_second'])} | {ours['ms_per_clip']:.3f}{noisy} |"
        )
        for library in others:
            theirs = stage["libraries"].get(library)
            row += f" {theirs['ms_per_clip']:.3f} ({stage['ratios'][library]:.1f}x) |" if theirs else " |"
        lines.append(row)
    marked = any(line.endswith("~ |") or " ~ |" in line for line in lines)
    note = f"\n\n~ the slowest round took more than {SPREAD} times as long as the fastest.\n" if marked else "\n"
    return "\n".join(lines) + note


def _missing(report: Mapping[str, Any]) -> str:
    lines = [f"- {library} is not installed: {reason}" for library, reason in report["absent"].items()]
    for name, stage in report["stages"].items():
        lines += [f"- {library} failed on `{name}`: {reason}" for library, reason in stage["failed"].items()]
    return "\n".join(["## Not measured\n", *lines]) + "\n" if lines else ""
