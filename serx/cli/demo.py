"""Open a page in the browser to try a model: record, upload, see the saliency, adapt to a voice.

The page is served to this computer only (127.0.0.1), and nothing leaves it.
"""

import argparse
import sys
import threading

from serx.cli.options import add_checkpoint, add_device, add_emotions, add_import, add_min_confidence, load_predictor
from serx.errors import ConfigError

EXAMPLES = """  %(prog)s                                                         (the model of serx)
  %(prog)s --checkpoint best.safetensors --port 8000

it needs one more package: pip install 'serx[demo]'"""
MAX_PORT = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, and where the page is served."""
    add_checkpoint(parser)
    add_emotions(parser)
    add_import(parser)
    add_min_confidence(parser)
    add_device(parser)
    parser.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="default: 127.0.0.1, which only this computer reaches"
    )
    parser.add_argument(
        "--allow-network",
        action="store_true",
        help="with a --host that other computers reach: everyone there can use the page, without a password or TLS",
    )


def main(arguments: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    from serx.demo.app import is_local, serve
    from serx.device import choose_device
    from serx.inference.default_model import summary

    if not is_local(arguments.host) and not arguments.allow_network:
        raise ConfigError(
            f"--host {arguments.host}: other computers could use the page, which has no password and no TLS; leave it "
            "out, or add --allow-network"
        )
    if arguments.port is not None and not 1 <= arguments.port <= MAX_PORT:
        raise ConfigError(f"--port {arguments.port}: give a number from 1 to {MAX_PORT}")
    predictor = load_predictor(arguments, choose_device(arguments.device, "--device"), arguments.min_confidence)
    with serve(predictor, summary(predictor.metadata, predictor.min_confidence), arguments.host, arguments.port) as url:
        print(f"demo: {url} (Ctrl-C stops it)", flush=True)
        if not is_local(arguments.host):
            print("warning: everyone who reaches this address can use the page", file=sys.stderr)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    return 0
