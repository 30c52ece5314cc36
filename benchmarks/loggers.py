"""What TensorBoard costs a training: CPU seconds within its logger, and of its import, against those of the whole run.

python -m benchmarks.loggers --config mlp --root /corpora/RAVDESS train.epochs=6
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch

METHODS = ("_open", "start", "clips", "epoch", "confusion", "validation", "finish", "close")


def measure(recipe: str, overrides: list[str]) -> tuple[float, float, float]:
    """CPU seconds of TensorBoard's import, of its logger, and of the whole training."""
    began = time.process_time()
    import torch.utils.tensorboard  # noqa: F401

    imported = time.process_time() - began
    from serx.config import load_config
    from serx.training.tensorboard import TensorBoardWriter
    from serx.training.trainer import fit

    spent = [0.0]

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any) -> Any:
            started = time.process_time()
            try:
                return method(*arguments)
            finally:
                spent[0] += time.process_time() - started

        return call

    for name in METHODS:
        setattr(TensorBoardWriter, name, timed(getattr(TensorBoardWriter, name)))
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        fit(load_config(recipe, overrides), folder + "/run", progress=False)
    return imported, spent[0], time.process_time() - started + imported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mlp", metavar="RECIPE")
    parser.add_argument("--root", required=True, metavar="DIR")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    settings = [f"data.root={arguments.root}", "train.threads=1", "train.loggers=[tensorboard]", *arguments.overrides]
    imported, logger, whole = measure(arguments.config, settings)
    print(
        f"TensorBoard: {imported + logger:.2f} CPU s ({imported:.2f} to import it, {logger:.2f} to write), "
        f"{100 * (imported + logger) / whole:.1f} % of a training of {whole:.1f} CPU s"
    )


if __name__ == "__main__":
    main()
