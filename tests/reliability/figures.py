"""Runs the tests of every promise of docs/reliability.md, long ones too, and writes the results into its table.

python -m tests.reliability.figures [NUMBER ...]          (make test-long)
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE, RECORD = ROOT / "docs/reliability.md", ROOT / "docs/reliability.json"
FAULTS = "tests/reliability"
PROMISES = {
    1: [f"{FAULTS}/test_kills.py", f"{FAULTS}/test_signals.py"],
    2: [f"{FAULTS}/test_syscalls.py", f"{FAULTS}/test_folder.py", "-k", "call or rename or links"],
    3: [f"{FAULTS}/test_folder.py", "tests/test_checkpoint.py", "-k", "flipped or cut or damaged"],
    4: [f"{FAULTS}/test_hostile_checkpoints.py", f"{FAULTS}/test_forged_metadata.py",
        "tests/data/download/test_archives.py", f"{FAULTS}/test_audit.py",
        f"{FAULTS}/test_atheris.py", "tests/models/encoders/test_loading.py"],
    5: [f"{FAULTS}/test_fuzz.py", f"{FAULTS}/test_prediction.py", "-k", "audio or unfold or label or predictions"],
    6: [f"{FAULTS}/test_disk_full.py", f"{FAULTS}/test_folder.py", "-k", "disk or written"],
    7: ["tests/training", f"{FAULTS}/test_training_faults.py", f"{FAULTS}/test_nonfinite.py", "-k", "finite or nan"],
    8: ["tests/config", f"{FAULTS}/test_fuzz.py", f"{FAULTS}/test_config_faults.py", "-k",
        "refused or rejected or override or accepted or error"],
    9: ["tests/data/splits/test_leaks.py", "tests/data/test_dataset.py", "tests/evaluation/test_held_out.py",
        f"{FAULTS}/test_planted_leaks.py", f"{FAULTS}/test_altered_copies.py", "tests/data/copies/test_pairs.py",
        "tests/metrics/test_calibration.py"],
    10: [f"{FAULTS}/test_determinism.py", f"{FAULTS}/test_training_faults.py", "tests/training/test_trainer.py",
         f"{FAULTS}/test_config_faults.py", "-k",
         "bytes or bits or nondeterministic or environment or resuming or edits or cpu"],
}  # fmt: skip


def prove(selection: list[str]) -> dict[str, object]:
    """Runs the tests of one promise, long ones too."""
    with tempfile.NamedTemporaryFile("r", suffix=".txt") as counts_file:
        environment = {**os.environ, "SERX_FIGURES": counts_file.name, "SERX_FUZZ": "5000", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-m", "long or not long", *selection]
        began = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        figures = counts_file.read().splitlines()
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    if done.returncode:
        print(done.stdout[-3000:], file=sys.stderr)
    return {"command": "pytest -m 'long or not long' " + " ".join(f"'{s}'" if " " in s else s for s in selection),
            "day": time.strftime("%Y-%m-%d"), "seconds": round(time.monotonic() - began), "figures": figures,
            **counts, "held": done.returncode == 0}  # fmt: skip


def report(record: dict[str, dict]) -> str:
    """A table of all promises in Markdown, and below it a list of what their tests have counted."""
    lines = ["| promise | held | tests | last tested |", "|---|---|---|---|"]
    counted = []
    for number, proof in record.items():
        tests = f"{proof.get('passed', 0)} passed" + "".join(
            f", {proof[word]} {word}" for word in ("failed", "error", "skipped") if proof.get(word)
        )
        held = "yes" if proof["held"] else "**NO**"
        lines.append(f"| {number} | {held} | {tests} | {proof['day']}, {proof['seconds']} s |")
        if proof["figures"]:
            text = f"- **{number}**: {'; '.join(proof['figures'])}"
            counted.append(textwrap.fill(text, 120, subsequent_indent="  ", break_on_hyphens=False))
    return "\n".join([*lines, "", "What the tests counted:", "", *counted])


def main(chosen: list[int]) -> bool:
    """Proves the promises with these numbers; returns whether all promises held when they were last tested."""
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for number in chosen:
        record[str(number)] = prove(PROMISES[number])
        print(number, json.dumps(record[str(number)]), flush=True)
        record = dict(sorted(record.items(), key=lambda item: int(item[0])))
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    page = PAGE.read_text()
    start, end = "<!-- figures -->\n", "<!-- end of figures -->"
    before, after = page.split(start)[0], page.split(end)[1]
    PAGE.write_text(before + start + report(record) + "\n" + end + after)
    return all(proof["held"] for proof in record.values())


if __name__ == "__main__":
    sys.exit(not main([int(number) for number in sys.argv[1:]] or list(PROMISES)))
