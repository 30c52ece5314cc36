"""Options of several verbs: a recipe, a model, clips to evaluate, the device."""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serx.errors import ConfigError
from serx.terminal import printable

if TYPE_CHECKING:
    import torch

    from serx.data.audio.config import Channel
    from serx.inference.predictor import Predictor


def add_config(parser: argparse.ArgumentParser) -> None:
    """A recipe with overrides, and modules to import before it is read."""
    parser.add_argument(
        "--config", required=True, metavar="RECIPE", help="a YAML file, or the name of a recipe, such as cnn2d"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="section.key=value",
        help="settings that replace the recipe's, such as optim.lr=1e-3",
    )
    add_import(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """Python modules of the user, imported before a recipe or a checkpoint is read."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        metavar="MODULE",
        help="import this Python module first, such as my_models for ./my_models.py: it may register models, "
        "features, transforms and corpora of yours; may be repeated",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """The device to compute on."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...; default: auto")


def add_checkpoint(parser: argparse.ArgumentParser, default: str = "") -> None:
    """The checkpoint of a model; `default` is said of the model that ships with serx."""
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="best.safetensors or last.safetensors of a run; or an emotion model of the Hugging Face hub, by its id or "
        f"its folder; default: the model that ships with serx{default}",
    )


def add_emotions(parser: argparse.ArgumentParser, otherwise: str = "all that the model knows") -> None:
    """The emotions to choose among."""
    parser.add_argument(
        "--emotions",
        type=lambda text: tuple(filter(None, re.split(r"[\s,]+", text))),
        metavar="A,B,...",
        help=f"choose among these emotions, such as angry,happy,sad; default: {otherwise}",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """A checkpoint to predict with, and recordings to adapt it to a speaker."""
    add_checkpoint(parser)
    add_emotions(parser)
    parser.add_argument(
        "--adapt-to",
        action="append",
        metavar="AUDIO_OR_FOLDER",
        help="adapt the model to a speaker with other recordings of the same person: ten or more, in many emotions, "
        "without labels; may be repeated",
    )
    add_import(parser)


def load_predictor(
    arguments: argparse.Namespace,
    device: "torch.device",
    min_confidence: float | None = None,
    channel: "Channel | None" = None,
) -> "Predictor":
    """The predictor of `--checkpoint`; without it the model that ships with serx, named in a line on stderr."""
    from serx.inference.predictor import Predictor

    predictor = Predictor.load(arguments.checkpoint, device, min_confidence, channel, arguments.emotions)
    if arguments.checkpoint is None:
        announce_default_model(predictor.metadata, predictor.min_confidence)
    return predictor


def announce_default_model(metadata: Mapping[str, Any], min_confidence: float) -> None:
    """Says on stderr, in one line, what the model that ships with serx predicts and on what it was trained."""
    from serx.inference.default_model import CARD, default_checkpoint, summary

    card = default_checkpoint().with_name(CARD)
    line = summary(metadata, min_confidence)
    print(f"model: the one that ships with serx: {line}; its card: {printable(card)}", file=sys.stderr)


def add_held_out(parser: argparse.ArgumentParser, parts: list[str], written: str) -> None:
    """A checkpoint to evaluate, on which clips, and where `written` go."""
    add_checkpoint(parser, ", which needs --root")
    add_emotions(parser, "all that the model knows; under the protocols loco and cross_corpus those of the corpus")
    parser.add_argument(
        "--root", metavar="DIR", help="another corpus folder or manifest; default: the one it was trained on"
    )
    parser.add_argument("--part", choices=parts, default="test", help="default: test")
    parser.add_argument(
        "--out", metavar="DIR", help=f"where {written} go; default: the checkpoint's folder, or evaluation/"
    )
    parser.add_argument(
        "--cache", metavar="DIR", help="folder for decoded audio; default: $SERX_CACHE or ~/.cache/serx"
    )
    add_device(parser)
    add_import(parser)


def held_out_model(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The checkpoint to evaluate, and the folder for what is written about it.

    Raises:
        ConfigError: the checkpoint is the one that ships with serx, and `--root` is missing.
    """
    if arguments.checkpoint is not None:
        path = Path(arguments.checkpoint)
        return path, Path(arguments.out or path.parent)
    from serx.checkpoint import load_run_checkpoint
    from serx.inference.default_model import default_checkpoint

    if arguments.root is None:
        raise ConfigError(
            "--root: the model that ships with serx comes without its corpora; add --root DIR, or evaluate a run of "
            "yours with --checkpoint FILE"
        )
    path = default_checkpoint()
    metadata = load_run_checkpoint(path).metadata
    announce_default_model(metadata, metadata.get("min_confidence", 0.0))
    return path, Path(arguments.out or "evaluation")


def add_min_confidence(parser: argparse.ArgumentParser) -> None:
    """The probability below which a prediction is `unsure`."""
    parser.add_argument(
        "--min-confidence",
        type=_probability,
        metavar="P",
        help="print `unsure` where no emotion reaches this probability, from 0 to 1; default: what the checkpoint "
        "says, 0 for that of a run; the report of evaluate lists coverage and accuracy by threshold",
    )


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a probability; give a number from 0 to 1, such as 0.6")
    return value


def add_channel(parser: argparse.ArgumentParser) -> None:
    """Which channel of a recording that has several."""
    parser.add_argument(
        "--channel",
        choices=["mix", "left", "right"],
        help="of a recording with several channels: their mean, or one, such as one speaker of a call; "
        "default: as in training",
    )
