"""Evaluate a checkpoint on the held-out speakers of its own protocol."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serx.cli.commands import command_line
from serx.cli.options import add_held_out, held_out_model
from serx.cli.output import add_json, add_report, how_to_reproduce, print_json, write_page
from serx.terminal import show

if TYPE_CHECKING:
    from serx.evaluation.held_out import HeldOut
    from serx.evaluation.report import Evaluation
    from serx.pages import Absent

PARTS = {"test": "test clips", "valid": "validation clips", "all": "all clips"}  # in a heading
EXAMPLES = """  %(prog)s --checkpoint checkpoints/cnn1d/RUN/best.safetensors
  %(prog)s --checkpoint best.safetensors --report report.html     (a page to look at)
  %(prog)s --checkpoint best.safetensors --adapt                   (adapted to each test speaker, without labels)
  %(prog)s --checkpoint best.safetensors --root /corpora/emodb --out results/emodb     (another corpus)
  %(prog)s --checkpoint superb/wav2vec2-base-superb-er@refs/pr/2 --root /corpora/emodb --out results/superb
  %(prog)s --root /corpora/emodb --out results/emodb     (the model that ships with serx)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the clips, and how to treat their speakers."""
    add_held_out(parser, ["test", "valid", "all"], "evaluation.json, predictions.csv and figures")
    add_report(parser, "the evaluation")
    add_json(parser, "the content of evaluation.json")
    parser.add_argument(
        "--allow-seen", action="store_true", help="evaluate training speakers as well; the report says so"
    )
    parser.add_argument(
        "--adapt",
        action=argparse.BooleanOptionalAction,
        help="adapt the model to each speaker with that speaker's unlabeled clips first; default: model.adapt",
    )


def main(arguments: argparse.Namespace) -> int:
    """Evaluates, writes the report and prints it."""
    from serx.device import choose_device
    from serx.errors import ConfigError
    from serx.evaluation.evaluate_checkpoint import evaluate_held_out
    from serx.evaluation.held_out import load_held_out
    from serx.evaluation.report import report_blocks
    from serx.inference.published import is_published
    from serx.training.run_folder import read_metrics

    if arguments.checkpoint and is_published(arguments.checkpoint) and not arguments.out:
        raise ConfigError(
            f"{arguments.checkpoint}: a published model has no run folder; say with --out where the report goes"
        )
    path, out = held_out_model(arguments)
    device = choose_device(arguments.device, "--device")
    held = load_held_out(
        path, arguments.root, arguments.part, device, arguments.allow_seen, True, arguments.cache, arguments.emotions
    )
    evaluation = evaluate_held_out(held, arguments.adapt)
    for note in evaluation.notes:
        print(f"note: {note}")
    epochs, warnings = read_metrics(path.parent)
    for warning in warnings:
        print(f"warning: {warning}")
    written = evaluation.write(out, epochs)
    if arguments.json:
        print_json(arguments, evaluation.scores)
    else:
        show([*report_blocks(evaluation.scores), ""])
    files = ["ratings.csv"] if evaluation.ratings else []
    if evaluation.predictions:
        files = ["predictions.csv", *files, "confusion.png", "report.png", "speakers.png", "calibration.png"]
    print(f"written: {written}, and in the same folder {', '.join(files + ['curves.png'] * bool(epochs))}")
    if arguments.report:
        write_page(arguments.report, _page(arguments, held, evaluation, path.parent, out, epochs))
    return 0


def _page(
    arguments: argparse.Namespace,
    held: "HeldOut",
    evaluation: "Evaluation",
    run: Path,
    out: Path,
    epochs: list[dict[str, Any]],
) -> str:
    from serx.evaluation.stamps import is_adapted
    from serx.pages import clip_explainer, clip_reader, confident_mistakes, evaluation_page, map_of_clips, stress_of
    from serx.pages.ratings_page import ratings_page, ratings_section
    from serx.pages.sections import OF_ADAPTED, OF_WAVEFORMS

    scores, p = evaluation.scores, evaluation.predictions
    config, recorded = held.predictor.config, run / "config.yaml"
    before = [command_line("train", arguments, "--config", str(recorded))] if recorded.exists() else []
    facts = {
        "data": held.root,
        "data (sha256)": scores["data_sha256"],
        "checkpoint": scores["checkpoint"],
        "trained with": ", ".join(f"{name} {value}" for name, value in scores["environment"].items()),
        "seed": config.train.seed,
    }
    title, curves = f"{config.model.kind}: evaluation on {PARTS[held.part]}", {str(run): epochs}
    reproduction = how_to_reproduce(arguments, facts, *before)
    if p is None:
        assert evaluation.ratings is not None
        return ratings_page(scores, evaluation.ratings, title, curves, reproduction)
    read_clip = clip_reader(held.source.batch, held.clips.tolist(), config.data.sample_rate)
    recognizer = held.predictor.recognizer
    # Speaker adaptation has ended: the model of the checkpoint may predict something else.
    adapted = is_adapted(scores["protocol"])
    explain = None if adapted else clip_explainer(recognizer, p)
    absent = {"stress": _without_stress(arguments, config.model.adapt, adapted)}
    if explain is None:
        absent["saliency"] = OF_ADAPTED if adapted else OF_WAVEFORMS
    return evaluation_page(
        scores,
        p,
        title,
        curves,
        stress_of([out, run], scores),
        map_of_clips(
            recognizer, held.source, held.clips, p, "The map is of the model before adaptation." if adapted else ""
        ),
        confident_mistakes(p, read_clip, explain=explain),
        reproduction,
        absent,
        rated=ratings_section(scores["dimensions"], evaluation.ratings) if evaluation.ratings else None,
    )


def _without_stress(arguments: argparse.Namespace, recipe_adapts: bool, adapted: bool) -> "Absent":
    """What the page says where there is no stress test of the same evaluation."""
    from serx.pages.sections import ABSENT, Absent

    if arguments.part == "all" or arguments.allow_seen:
        return Absent(
            "Not measured: `serx stress` takes test or validation clips of speakers that were not in training."
        )
    if adapted != recipe_adapts:
        return Absent("Not measured: `serx stress` adapts a model to each speaker if its recipe does (`model.adapt`).")
    given = ((f"--{name}", getattr(arguments, name)) for name in ("checkpoint", "root", "out", "cache"))
    words = [word for option, value in given if value is not None for word in (option, value)]
    part = ["--part", arguments.part] if arguments.part != "test" else []
    return Absent(ABSENT["stress"].why, [command_line("stress", arguments, *words, *part)])
