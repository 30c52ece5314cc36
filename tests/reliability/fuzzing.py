"""Coverage-guided fuzzing (atheris) of everything that reads untrusted bytes: names, manifests, recipes, audio, ...

    python -m tests.reliability.fuzzing TARGET FOLDER RUNS SEED

libFuzzer prints `Done RUNS runs` at its end. Any exception but a SerxError ends it with a traceback.
"""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["serx"]):
    from serx import checkpoint
    from serx.config.loader import load_config
    from serx.data.audio.config import AudioConfig
    from serx.data.audio.decoding import decode
    from serx.data.download.archives import unpack
    from serx.data.tables.manifest import read_manifest
    from serx.errors import SerxError
    from tests.data.layouts import utterance_of

ROOT = Path(__file__).parents[2]


def names(content: bytes, folder: Path) -> None:
    clip = utterance_of(os.fsdecode(content.replace(b"\0", b"").replace(b"..", b".").strip(b"/")[:200]) + ".wav")
    assert clip is None or (clip.emotion and clip.speaker)


def manifest(content: bytes, folder: Path) -> None:
    path = folder / "any.csv"
    path.write_bytes(b"path,emotion,speaker\n" + content)
    read_manifest(path)


def config(content: bytes, folder: Path) -> None:
    path = folder / "any.yaml"
    path.write_bytes(content)
    load_config(path)


def audio(content: bytes, folder: Path) -> None:
    path = folder / "any.wav"
    path.write_bytes(content)
    decode(path, AudioConfig(max_seconds=2.0))


def a_checkpoint(content: bytes, folder: Path) -> None:
    path = folder / "any.safetensors"
    path.write_bytes(content)
    checkpoint.load(path)


def archive(content: bytes, folder: Path) -> None:
    path = folder / "any.zip"
    path.write_bytes(content)
    unpack(path, folder / f"out{os.urandom(8).hex()}")


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    "names": names, "manifest": manifest, "config": config, "audio": audio, "checkpoint": a_checkpoint,
    "archive": archive,
}  # fmt: skip


def main(target: str, folder: Path, runs: int, seed: int) -> None:
    """Runs one target `runs` times, starting from the inputs in FOLDER/corpus."""

    def once(content: bytes) -> None:
        with suppress(SerxError):
            TARGETS[target](content, folder)

    limits = [f"-runs={runs}", f"-seed={seed}", "-max_len=4096", "-rss_limit_mb=4000", "-timeout=20"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder / "corpus")], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
