"""The page people read: a report's JSON as Markdown tables."""

from collections.abc import Mapping
from typing import Any

SPREAD = 1.5  # the slowest round over the fastest: beyond it a row is marked


def page(report: Mapping[str, Any]) -> str:
    """Facts, targets, shares and memory, then a table for each group of stages."""
    parts = [_head(report), _targets(report), _shares(report), _memory(report)]
    groups = dict.fromkeys(stage["group"] for stage in report["stages"].values())
    parts += [_group(report, group) for group in groups]
    parts.append(_missing(report))
    return "\n".join(part for part in parts if part)


def _head(report: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"# Speed on {report['machine']}\n\n"
        f"Made by `{report['command']}` on {report['date']}; never edited by hand.\n\n"
        f"- device {report['device']}, {report['threads']} thread(s) of {report['cores']} cores; {report['clock']}\n"
        f"- {report['clips']} clips of {report['seconds']:g} s at 16 kHz: {report['source']}\n"
        f"- medians of {report['rounds']} rounds in which the tools take turns, after a warm-up\n"
        f"- {report['config']}\n"
        f"- {versions}\n"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _targets(report: Mapping[str, Any]) -> str:
    if not report["targets"]:
        return ""
    lines = ["## Targets\n", "| stage | beside | target | measured | |", "|---|---|---|---|---|"]
    for target in report["targets"]:
        small = target["unit"] in ("ms a batch", "MB a batch")
        unit = "x" if target["unit"] == "x" else f" {target['unit']}"
        wanted = f"{'<=' if small else '>='} {target['figure']:g}{unit}"
        measured = "not measured" if target["measured"] is None else f"{_number(target['measured'])}{unit}"
        verdict = {True: "met", False: "**missed**", None: ""}[target["met"]]
        lines.append(f"| {target['stage']} | {target['peer'] or ''} | {wanted} | {measured} | {verdict} |")
    return "\n".join(lines) + "\n"


def _shares(report: Mapping[str, Any]) -> str:
    if not report["shares"]:
        return ""
    lines = ["## Where a training step's time goes\n", "| part | share |", "|---|---|"]
    lines += [f"| {part} | {100 * share:.0f} % |" for part, share in report["shares"].items()]
    return "\n".join(lines) + "\n\nThe rest is the optimizer, the averaged weights and the sums; parts timed alone.\n"


def _memory(report: Mapping[str, Any]) -> str:
    if not report["memory"]:
        return ""
    count = report["memory_clips"]
    lines = [f"## Peak memory of a batch of {count}\n", "| stage | the batch, MB | in all, MB |", "|---|---|---|"]
    lines += [f"| {name} | {peak['batch']:.0f} | {peak['process']:.0f} |" for name, peak in report["memory"].items()]
    return "\n".join(lines) + "\n"


def _group(report: Mapping[str, Any], group: str) -> str:
    stages = {name: stage for name, stage in report["stages"].items() if stage["group"] == group}
    peers = list(dict.fromkeys(tool for stage in stages.values() for tool in stage["tools"] if tool != "serx"))
    lines = [
        f"## {group.capitalize()}\n",
        "Milliseconds a clip, and how many times longer than serx.\n" if peers else "Milliseconds a clip.\n",
        "| | stage | serx, clips/s | serx, ms |" + "".join(f" {peer} |" for peer in peers),
        "|---|---|---|---|" + "---|" * len(peers),
    ]
    for name, stage in stages.items():
        ours = stage["tools"]["serx"]
        noisy = " ~" if ours["slowest_ms"] > SPREAD * ours["fastest_ms"] else ""
        row = (
            f"| `{name}` | {stage['about']} | {_number(ours['clips_per_second'])} | {ours['ms_per_clip']:.3f}{noisy} |"
        )
        for peer in peers:
            tool = stage["tools"].get(peer)
            row += f" {tool['ms_per_clip']:.3f} ({stage['ratios'][peer]:.1f}x) |" if tool else " |"
        lines.append(row)
    marked = any(line.endswith("~ |") or " ~ |" in line for line in lines)
    note = f"\n\n~ the slowest round took {SPREAD} times the fastest, or more.\n" if marked else "\n"
    return "\n".join(lines) + note


def _missing(report: Mapping[str, Any]) -> str:
    lines = [f"- {peer} is absent: {why}" for peer, why in report["absent"].items()]
    for name, stage in report["stages"].items():
        lines += [f"- {peer} broke down on `{name}`: {why}" for peer, why in stage["failed"].items()]
    return "\n".join(["## Not measured\n", *lines]) + "\n" if lines else ""
