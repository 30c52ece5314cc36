"""Show the curves of runs in TensorBoard, starting with training and validation in one chart.

It is served to this computer only (127.0.0.1).
"""

import argparse
import threading
from contextlib import suppress
from pathlib import Path

from serx.errors import ConfigError

EXAMPLES = """  %(prog)s                                   (all runs in checkpoints/)
  %(prog)s checkpoints/cnn1d
  %(prog)s checkpoints/cnn1d/RUN --port 6010"""
EVENTS = "events.out.tfevents*"
MAX_PORT = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder of the runs, and the port."""
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 6006")
    parser.add_argument("runs", nargs="?", default="checkpoints", metavar="RUNS", help="default: checkpoints/")


def main(arguments: argparse.Namespace) -> int:
    """Serves TensorBoard until Ctrl-C."""
    address = start(Path(arguments.runs), arguments.port)
    print(f"TensorBoard: {address} (Ctrl-C stops it)", flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
    return 0


def start(runs: Path, port: int | None) -> str:
    """Starts TensorBoard in a thread of this process and returns the address of its charts.

    Raises:
        ConfigError: there is no run in the folder, or the port cannot be used.
    """
    if not runs.is_dir():
        raise ConfigError(f"{runs}: no such folder; name the folder of a run, or one of several runs")
    if next(runs.rglob(EVENTS), None) is None:
        raise ConfigError(f"{runs}: no run with TensorBoard's files; name another folder (train.loggers writes them)")
    if port is not None and not 1 <= port <= MAX_PORT:
        raise ConfigError(f"--port {port}: give a number from 1 to {MAX_PORT}")
    from tensorboard import program

    board = program.TensorBoard()
    words = [] if port is None else ["--port", str(port)]
    board.configure(argv=["tensorboard", "--logdir", str(runs), "--host", "127.0.0.1", "--load_fast", "false", *words])
    try:
        address = board.launch()
    except program.TensorBoardServerException as error:
        raise ConfigError(f"--port {port}: {error}") from error
    return f"{address}#custom_scalars"
