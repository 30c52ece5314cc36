#!/usr/bin/env python3
"""Show what a test part that was met in training does to a figure: one recipe, three mistakes, and none."""

import time
from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> int:
    from serx.config.loader import load
    from serx.experiments.leakage import format_lesson, run_leakage_lesson

    config = load(arguments.config, arguments.overrides)
    stem = Path(arguments.config).stem
    out = Path(arguments.out or Path("checkpoints") / stem / f"leakage-{time.strftime('%Y%m%d-%H%M%S')}")
    lesson, code = run_leakage_lesson(config, out, arguments.copies)
    if code:
        return code
    print(f"\n{format_lesson(lesson)}\nwritten: {out / 'leakage.json'}, leakage.png beside it")
    return 0


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/leakage.py --config configs/mlp.yaml data.root=/corpora/ravdess\n"
        "  python scripts/leakage.py --config configs/mlp.yaml --copies 6 data.root=/corpora/ravdess train.epochs=30\n"
        "  python scripts/leakage.py --config configs/published/ravdess_mlp.yaml data.root=DIR data.protocol=luna5",
    )
    parser.add_argument("--config", required=True, help="a YAML file; data.protocol must keep speakers apart")
    parser.add_argument("--out", help="default: checkpoints/<config>/leakage-<time>")
    parser.add_argument("--copies", type=int, default=3, metavar="K", help="of each clip: noise, stretch, pitch, again")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the file")
    commands.run(main, parser.parse_intermixed_args())
