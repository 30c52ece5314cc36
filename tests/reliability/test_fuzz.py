"""Random and damaged configurations, overrides, file names, manifests and audio are read or raise a SerxError."""

import json
import os
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from serx.config.loader import load_config
from serx.config.yaml_lines import parse
from serx.data.corpora import CORPORA, PUBLISHED_CORPORA
from serx.data.tables.manifest import read_manifest
from serx.errors import SerxError
from tests.data.layouts import utterance_of

ROOT = Path(__file__).parents[2]
RECIPES = [path.read_text() for path in sorted((ROOT / "configs").rglob("*.yaml"))]
MORE_EXAMPLES = int(os.environ.get("SERX_FUZZ", "0"))


def examples(count: int):
    """`count` examples, the same each time; with `SERX_FUZZ=N` in the environment, N random ones."""
    return settings(max_examples=MORE_EXAMPLES or count, deadline=None, derandomize=not MORE_EXAMPLES, database=None,
                    suppress_health_check=list(HealthCheck))  # fmt: skip


def error_message(read, *arguments) -> str | None:
    """The message of the SerxError that `read(*arguments)` raises; None if it raises nothing."""
    try:
        read(*arguments)
    except SerxError as error:
        return str(error)
    return None


TOKENS = [
    "data", "model", "kind: cnn1d", "root: x", "train", "optim", "lr", "1e-3", ".nan", ".inf", "-", ":", ": ", "\n",
    "\n  ", "[", "]", "{", "}", ",", "&a", "*a", "!!python/object:os.system", "!!int", "!!binary", "!!set",
    "!!timestamp", "<<", "? ", "|", ">", "'", '"', "#", "%YAML 9", "---", "...", "\t", "null", "\x00", "\ufeff",
    "9" * 5000, "0x10", "=", "@", "`", "epochs", "2001-01-01", "é", "\U0001f600", "\ud800",
]  # fmt: skip
yaml_text = st.one_of(st.text(max_size=200), st.lists(st.sampled_from(TOKENS), max_size=30).map("".join))


def _mutated(text: str, edits: list[tuple[float, str]]) -> str:
    for fraction, token in edits:
        start = int(fraction * len(text))
        text = text[:start] + token + text[start + (len(token) % 3) :]
    return text


edits = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(TOKENS)), min_size=1, max_size=4)
ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@examples(200)
@given(yaml_text)
@example(ALIASES)
@example("a: &a [*a]")
@example("[" * 3000)
@example("a: !!python/object/apply:os.system [true]")
@example("a: !!int x")
@example("a: !!float [1]")
@example("? [a, {b: c}]\n: d")
@example("a: " + "9" * 5000)
@example("a: !!binary '*'")
@example("a: !!timestamp x")
def test_any_text_is_a_tree_or_raises_with_its_source(text):
    message = error_message(parse, text, "some.yaml")
    assert message is None or "some.yaml" in message


@examples(200)
@given(st.sampled_from(RECIPES), edits)
@example("data: {root: x, label_map: {a: b}}\nmodel: {kind: [cnn1d]}\n", [(1.0, "\n")])
@example("data: {root: [[x]]}\nmodel: 3\n", [(1.0, "\n")])
@example("1\n", [(1.0, "\n")])
@example("data: {root: x}\nmodel: {kind: {a: b}}\n", [(1.0, "\n")])
def test_any_damaged_configuration_is_loaded_or_raises_with_its_file(tmp_path_factory, text, edits):
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_bytes(_mutated(text, edits).encode("utf-8", "surrogatepass"))
    message = error_message(load_config, path)
    assert message is None or "damaged.yaml" in message


@examples(300)
@given(st.one_of(
    st.text(max_size=40),
    st.tuples(st.sampled_from(["optim.lr", "data", "model", "augment.waveform", "data.label_map.x", "a..b", "."]),
              yaml_text).map("=".join),
))  # fmt: skip
def test_any_override_is_applied_or_raises_as_an_override(tmp_path_factory, override):
    path = tmp_path_factory.getbasetemp() / "plain.yaml"
    path.write_text("data: {root: x}\nmodel: {kind: cnn1d}\n")
    message = error_message(load_config, path, [override])
    assert message is None or "command line" in message


names = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="0123456789-_/ .wavWLEAFTNabXHIOYDFAGR" + string.ascii_lowercase, max_size=40),
    st.tuples(
        st.sampled_from([CORPORA[name].example.split(".")[0] for name in PUBLISHED_CORPORA]),
        st.floats(0, 1),
        st.characters(),
    ).map(lambda x: x[0][: int(x[1] * len(x[0]))] + x[2] + x[0][int(x[1] * len(x[0])) + 1 :]),
)


@examples(500)
@given(names)
def test_any_file_name_is_a_known_clip_or_unknown(name):
    clip = utterance_of(
        os.fsdecode(name.replace("\0", "").replace("..", ".").strip("/").encode(errors="replace")) + ".wav"
    )
    if clip is not None:
        corpus = CORPORA[clip.corpus]
        assert clip.speaker in (corpus.speakers or {clip.speaker})
        assert clip.emotion in corpus.emotions.values()


@pytest.mark.parametrize(
    ("name", "speaker"),
    [("1076_MTI_SAD_XX.wav", "1076"), ("1040_ITH_SAD_X.wav", "1040"), ("01-01-03-01-01-01-07.wav", "07"),
     ("03-02-03-01-01-01-07.wav", "07"), ("03-01-09-01-01-01-07.wav", None), ("03-01-03-01-01-01-25.wav", None),
     ("1092_MTI_SAD_XX.wav", None), ("03-01-03-01-01-01-07 (1).wav", None)],
)  # fmt: skip
def test_irregular_names_of_real_corpora_are_known_or_unknown(name, speaker):
    clip = utterance_of(name)
    assert (clip.speaker if clip else None) == speaker


CELLS = [
    "a.wav", "b.wav", "../a.wav", "/etc/passwd", "", "anger", "sad", "1", "Actor_07", "7", "\x00", '"', '""', ",", ";",
    "\t", "\n", "\r", "m", "female", "train", "x" * 200_000, "\ud800", "é",
]  # fmt: skip
cells = st.sampled_from(CELLS)


@examples(150)
@given(st.lists(st.lists(cells, max_size=6), max_size=6), st.sampled_from([",", ";", "\t", "|"]))
def test_any_manifest_is_read_or_raises_with_its_file(tmp_path_factory, rows, separator):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "any.csv"
    (folder / "a.wav").touch()
    header = separator.join(["path", "emotion", "speaker", "sex", "split"])
    text = "\n".join([header, *(separator.join(row) for row in rows)])
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    message = error_message(read_manifest, path)
    assert message is None or ("any.csv" in message and len(message) < 10_000)


def mutate_and_read(count: int, seed: int, megabytes: int, folder: Path) -> dict:
    command = [sys.executable, "-m", "tests.reliability.mutating", count, seed, megabytes, folder]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900)
    file = (folder / "now").read_text() if (folder / "now").exists() else ""
    assert done.returncode == 0, f"the reading process ended at {file}: {done.stderr[-500:]}"
    return json.loads(done.stdout.splitlines()[-1])  # libsndfile's ALAC decoder prints lines as well


def test_damaged_audio_is_decoded_or_raises_with_a_reason(tmp_path):
    result = mutate_and_read(500, 0, 800, tmp_path)
    assert not result["wrong"]
    assert result["files"] == 500 and len(result["outcomes"]) >= 8 and 50 < result["outcomes"]["decoded"] < 400


@pytest.mark.long
def test_five_thousand_damaged_audio_files_end_no_process(tmp_path, record_figure):
    result = mutate_and_read(5000, 1, 800, tmp_path)
    assert not result["wrong"]
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(result["outcomes"].items()))
    peak = f"peak {result['peak_mb']} MB"
    record_figure(f"{result['files']} damaged files: 0 processes ended, 0 unsound results ({outcomes}), {peak}")


BOMBS = {
    "a minute of eight channels": ((384_000 * 60, 8), 384_000, "FLAC"),
    "an hour": ((16_000 * 3600, 1), 16_000, "FLAC"),
    "ten minutes of two channels": ((48_000 * 600, 2), 48_000, "FLAC"),
    "a compressed quarter of an hour": ((8_000 * 900, 1), 8_000, "OGG"),
}
READ = """
import re, sys
from pathlib import Path
from serx.data.audio.decoding import read_audio
from serx.data.audio.error import AudioError
def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10
after_imports = peak_mb()
try:
    print(len(read_audio(sys.argv[1])))
except AudioError as error:
    print(error.reason)
print(peak_mb() - after_imports)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory from /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_small_files_that_decode_to_large_ones_take_less_than_400_mb(name, tmp_path):
    (frames, channels), rate, form = BOMBS[name]
    path = tmp_path / "bomb"
    with soundfile.SoundFile(path, "w", rate, channels, format=form) as file:
        block = np.zeros((1 << 20, channels), np.float32)
        block[0] = 0.5
        for start in range(0, frames, len(block)):
            file.write(block[: min(len(block), frames - start)])
    assert path.stat().st_size < frames * channels / 10
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, cwd=ROOT)
    result, peak = done.stdout.split()
    assert result == ("too_long" if name != "a minute of eight channels" else str(16_000 * 60))
    assert int(peak) < 400
