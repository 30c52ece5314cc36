"""The audio cache: decoded once, opened afterward, decoded again after any change, with every bad file listed."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serx.data import file_state as file_state_module
from serx.data.audio.config import AudioConfig
from serx.data.batches import DeviceAudio, StreamedAudio, make_batch_source
from serx.data.cache import audio_cache as audio_cache_module
from serx.data.cache import shards as audio_shards
from serx.data.cache.audio_cache import open_audio_cache
from serx.data.dataset import DataConfig
from serx.errors import DiskError
from serx.files import seal, unseal
from tests.conftest import RATE, speechlike

CONFIG = AudioConfig()


@pytest.fixture
def files(tmp_path):
    waves = [speechlike(0.3 + 0.2 * i, 150 + 40 * i, i) for i in range(4)]
    paths = []
    for i, wave in enumerate(waves):
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], wave, RATE, subtype="PCM_16")
    return paths, waves


def clip(audio_cache, i) -> np.ndarray:
    return audio_cache.clip(i) * audio_cache.scales[i]


def test_cached_clips_equal_the_files(files, tmp_path):
    paths, waves = files
    audio_cache = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    for i, wave in enumerate(waves):
        assert np.abs(clip(audio_cache, i) - wave).max() < 1e-4
        assert np.array_equal(
            clip(audio_cache, i), soundfile.read(paths[i], dtype="float32")[0]
        )  # 16-bit files bit for bit
    assert audio_cache.rows.tolist() == [0, 1, 2, 3]
    assert len(set(audio_cache.digests)) == 4


def test_a_second_opening_decodes_nothing(files, tmp_path, monkeypatch):
    paths, _ = files
    first = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    monkeypatch.setattr(audio_cache_module, "decode", lambda *a: pytest.fail("decoded again"))
    second = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    assert np.array_equal(first.samples(), second.samples())
    assert first.digests == second.digests


@pytest.mark.parametrize("change", ["content", "settings", "list"])
def test_any_change_makes_a_new_cache(change, files, tmp_path):
    paths, waves = files
    first = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    config = AudioConfig(trim_db=30.0) if change == "settings" else CONFIG
    if change == "content":
        soundfile.write(paths[0], waves[3], RATE, subtype="PCM_16")
    second = open_audio_cache(paths[:3] if change == "list" else paths, config, tmp_path / "cache", progress=False)
    assert first.fingerprint != second.fingerprint


def test_every_fold_and_protocol_uses_the_same_cache(files, tmp_path):
    first = DataConfig(root="here", protocol="luna5", fold=0)
    second = DataConfig(root="there", protocol="random", fold=3, labels=("calm", "sad"), split_seed=4)
    caches = [open_audio_cache(files[0], config, tmp_path / "cache", progress=False) for config in (first, second)]
    assert caches[0].fingerprint == caches[1].fingerprint


def test_broken_files_are_skipped_with_name_and_reason(files, tmp_path):
    paths, _ = files
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:3000])
    audio_cache = open_audio_cache([*paths, tmp_path / "absent.wav"], CONFIG, tmp_path / "cache", progress=False)
    assert audio_cache.rows.tolist() == [0, -1, -1, 1, -1]
    reasons = {os.path.basename(path): why.split(":")[0] for path, why in audio_cache.skipped.items()}
    assert reasons == {"1.wav": "empty", "2.wav": "truncated", "absent.wav": "unreadable"}


def test_file_names_that_are_not_text_are_decoded_and_skipped_like_others(files, tmp_path):
    paths, waves = files
    odd = tmp_path / os.fsdecode(b"n\xff")
    odd.mkdir()
    paths = [paths[0].rename(odd / "0.wav"), paths[1], odd / "absent.wav"]
    for _ in range(2):  # decoded, then opened
        audio_cache = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
        assert audio_cache.rows.tolist() == [0, 1, -1]
        assert np.abs(clip(audio_cache, 0) - waves[0]).max() < 1e-4
        assert list(audio_cache.skipped) == [str(odd / "absent.wav")]


def test_equal_audio_has_equal_digests_in_any_file_format(files, tmp_path):
    paths, _ = files
    soundfile.write(tmp_path / "copy.flac", soundfile.read(paths[0], dtype="int16")[0], RATE, subtype="PCM_16")
    audio_cache = open_audio_cache([paths[0], tmp_path / "copy.flac"], CONFIG, tmp_path / "cache", progress=False)
    assert audio_cache.digests[0] == audio_cache.digests[1]


def test_float_files_beyond_full_scale_keep_their_level(tmp_path):
    wave = 3.0 * speechlike(0.5, 200, 0, level=1.0)
    soundfile.write(tmp_path / "hot.wav", wave, RATE, subtype="FLOAT")
    audio_cache = open_audio_cache([tmp_path / "hot.wav"], CONFIG, tmp_path / "cache", progress=False)
    assert np.abs(clip(audio_cache, 0) - wave).max() < 3e-4


@pytest.mark.parametrize("name", ["0000.int16", "0000.sealed"])
@pytest.mark.parametrize("damage", ["cut", "empty", "missing", "a flipped bit"])
def test_a_damaged_cache_is_decoded_again(name, damage, files, tmp_path):
    paths, waves = files
    open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    damaged = next((tmp_path / "cache").glob(f"*/{name}"))
    content = bytearray(damaged.read_bytes())
    if damage == "missing":
        damaged.unlink()
    else:
        content[len(content) // 2] ^= 4
        damaged.write_bytes(content if damage == "a flipped bit" else content[: -100 if damage == "cut" else 0])
    audio_cache = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    for i, wave in enumerate(waves):
        assert np.abs(clip(audio_cache, i) - wave).max() < 1e-4
    assert len(audio_cache.digests) == 4


def pickled() -> bytes:
    """An array of objects as numpy saves it; unpickling it ends the test."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap()], object), allow_pickle=True)
    return buffer.getvalue()


class Trap:
    def __reduce__(self):
        return pytest.fail, ("unpickled",)


NOT_AN_INDEX = {
    "objects": pickled(),
    "nested": bytes(8) + b"[" * 100_000,
    "nested in a key": bytes(8) + b'{"refused": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a list": bytes(8) + b"[]",
    "a number": bytes(8) + b"7",
    "no text": bytes(8) + b"\xff\xfe",
    "nothing": b"",
    "no records": bytes(8) + b'{"refused": {}, "warnings": {}}',
    "too many records": b"\xff" * 8 + bytes(1000),
    "keys missing": bytes(8) + b'{"refused": {}}',
}
WRONG_VALUES = {
    "start": [-1, 0, 10**15, 2**62, [0, 1, 2, 3]],
    "length": [-1, 10**15, 2**63 - 1, [1, 1, 1, 1]],
    "scale": [np.nan, np.inf, -1.0, 0.0],
    "digest": [b"x" * 16],
    "key": [b"y" * 16, b""],
    "refused": [[], {"a": 1}, {"zz": "x"}, 3, None],
}


def check_rebuilt(paths, waves, cache) -> None:
    audio_cache = open_audio_cache(paths, CONFIG, cache, progress=False)
    assert audio_cache.rows.tolist() == [0, 1, 2, 3]
    for i, wave in enumerate(waves):
        assert np.abs(clip(audio_cache, i) - wave).max() < 1e-4


@pytest.mark.parametrize("content", NOT_AN_INDEX)
def test_an_index_with_a_right_digest_and_other_content_is_made_again(content, files, tmp_path):
    open_audio_cache(files[0], CONFIG, tmp_path / "cache", progress=False)
    index = next((tmp_path / "cache").glob("*/0000.sealed"))
    index.write_bytes(seal(NOT_AN_INDEX[content]))
    check_rebuilt(*files, tmp_path / "cache")


def parsed(path: Path) -> tuple[np.ndarray, dict]:
    content = unseal(path)
    count = int.from_bytes(content[:8], "little")
    records = np.frombuffer(content, audio_shards.RECORD, count, 8).copy()
    return records, json.loads(content[8 + records.nbytes :])


@pytest.mark.parametrize("key", WRONG_VALUES)
def test_an_index_with_a_wrong_value_is_made_again(key, files, tmp_path):
    open_audio_cache(files[0], CONFIG, tmp_path / "cache", progress=False)
    path = next((tmp_path / "cache").glob("*/0000.sealed"))
    for value in WRONG_VALUES[key]:
        records, said = parsed(path)
        if key == "refused":
            said[key] = value
        else:
            records[key] = value
        path.write_bytes(seal(len(records).to_bytes(8, "little") + records.tobytes() + json.dumps(said).encode()))
        check_rebuilt(*files, tmp_path / "cache")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
@pytest.mark.parametrize("name", ["0000.int16", "0000.sealed"])
def test_a_side_file_that_is_no_plain_file_is_replaced_or_raises_one_line(name, kind, files, tmp_path):
    open_audio_cache(files[0], CONFIG, tmp_path / "cache", progress=False)
    path = next((tmp_path / "cache").glob(f"*/{name}"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
        with pytest.raises(DiskError, match=r"data\.cache=DIR") as caught:
            open_audio_cache(files[0], CONFIG, tmp_path / "cache", progress=False)
        assert "\n" not in str(caught.value)
    else:
        os.mkfifo(path) if kind == "pipe" else path.symlink_to(tmp_path / "nowhere")
        check_rebuilt(*files, tmp_path / "cache")
        assert path.is_file() and not (tmp_path / "nowhere").exists()


def replaced(path: Path, wave: np.ndarray, way: str) -> None:
    """Writes another recording in place of a file, with the same size and modification time."""
    before = path.stat()
    target = path if way == "written over" else path.with_suffix(".new")
    soundfile.write(target, wave[: soundfile.info(path).frames], RATE, subtype="PCM_16", format="WAV")
    if way == "renamed":
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        target.rename(path)
    elif way == "linked":
        os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
        path.unlink()
        path.symlink_to(target)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("way", ["written over", "renamed", "linked"])
def test_other_recordings_of_the_same_size_and_time_are_decoded_again(way, files, tmp_path):
    paths, waves = files
    open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    for path in paths:
        replaced(path, waves[3][::-1], way)
    audio_cache = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    for i, path in enumerate(paths):
        assert np.array_equal(clip(audio_cache, i), soundfile.read(path, dtype="float32")[0])


def test_without_a_time_of_change_the_ends_of_a_file_tell_its_replacement(files, tmp_path, monkeypatch):
    monkeypatch.setattr(file_state_module, "WINDOWS", True)
    before = file_state_module._ends(files[0][0], files[0][0].stat().st_size)
    first = file_state_module.file_state(files[0][0])
    replaced(files[0][0], files[1][3], "written over")
    assert before in first and before not in file_state_module.file_state(files[0][0])
    assert file_state_module.file_state(tmp_path / "absent.wav") == "missing"


DECODE = """
import sys, time
from pathlib import Path
from serx.data.cache import audio_cache
from serx.data.audio.config import AudioConfig

decode = audio_cache.decode
audio_cache.decode = lambda *a, **k: time.sleep(0.05) or decode(*a, **k)
paths = [Path(p) for p in sys.argv[2:]]
made = audio_cache.open_audio_cache(paths, AudioConfig(), Path(sys.argv[1]), progress=False)
print(len(made.digests))
"""


def test_processes_that_decode_the_same_files_at_once_make_one_cache_even_if_some_are_killed(files, tmp_path):
    paths = [shutil.copy(files[0][i % 4], tmp_path / f"copy{i}.wav") for i in range(40)]
    command = [sys.executable, "-c", DECODE, str(tmp_path / "cache"), *map(str, paths)]
    root = Path(__file__).parents[3]
    killed = [subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL) for _ in range(2)]
    for _ in range(6000):
        if list(tmp_path.glob("cache/*/0000.int16")):
            break
        time.sleep(0.01)
    for process in killed:
        process.kill()
        process.wait()
    finished = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].split() for process in finished] == [["40"], ["40"]]
    names = {path.name for path in tmp_path.glob("cache/*/*")}
    assert names == {".lock", "0000.int16", "0000.sealed"}


def test_a_damaged_cache_that_cannot_be_written_raises_one_line(files, tmp_path, monkeypatch):
    open_audio_cache(files[0], CONFIG, tmp_path / "cache", progress=False)
    flat = next((tmp_path / "cache").glob("*/0000.int16"))
    flat.write_bytes(flat.read_bytes()[:-2])

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(type(flat), "open", refuse)
    with pytest.raises(DiskError, match=r"Read-only.*data\.cache=DIR"):
        open_audio_cache(files[0], CONFIG, tmp_path / "cache", progress=False)


def test_a_killed_decoder_leaves_no_cache_that_seems_complete(files, tmp_path, monkeypatch):
    paths, _ = files
    monkeypatch.setattr(audio_shards, "write_atomically", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    monkeypatch.undo()
    assert open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False).rows.tolist() == [0, 1, 2, 3]


def test_a_cache_that_cannot_be_written_raises_one_line(files, tmp_path):
    (tmp_path / "occupied").write_text("a file, not a folder")
    with pytest.raises(DiskError, match="data.cache=DIR") as caught:
        open_audio_cache(files[0], CONFIG, tmp_path / "occupied", progress=False)
    assert "free" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_device_and_streamed_audio_give_the_same_batches(files, tmp_path):
    paths, waves = files
    audio_cache = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    chosen = np.array([3, 0, 0, 2])
    results = [
        source.batch(chosen)
        for source in (DeviceAudio(audio_cache, torch.device("cpu")), StreamedAudio(audio_cache, torch.device("cpu")))
    ]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    waveform, lengths = results[0]
    assert lengths.tolist() == [len(waves[i]) for i in chosen]
    for row, i, length in zip(waveform, chosen, lengths, strict=True):
        assert np.abs(row[:length].numpy() - waves[i]).max() < 1e-4
        assert not row[length:].any()


def test_auto_placement_streams_on_a_cpu(files, tmp_path):
    audio_cache = open_audio_cache(files[0], CONFIG, tmp_path / "cache", progress=False)
    assert isinstance(make_batch_source(audio_cache, torch.device("cpu"), "auto"), StreamedAudio)
    assert isinstance(make_batch_source(audio_cache, torch.device("cpu"), "device"), DeviceAudio)


def test_one_more_file_is_decoded_alone_and_one_less_is_not(files, tmp_path, monkeypatch):
    paths, waves = files
    cache, decoded = tmp_path / "cache", []
    decode = audio_cache_module.decode
    monkeypatch.setattr(
        audio_cache_module, "decode", lambda path, *a, **k: decoded.append(path.name) or decode(path, *a, **k)
    )
    for chosen, new in [((0, 1), ["0.wav", "1.wav"]), ((2, 0, 1), ["2.wav"]), ((1, 2), []), ((0, 1, 2, 3), ["3.wav"])]:
        audio_cache = open_audio_cache([paths[i] for i in chosen], CONFIG, cache, progress=False)
        assert sorted(decoded) == new and audio_cache.decoded == len(new)
        for row, i in enumerate(chosen):
            assert np.abs(clip(audio_cache, row) - waves[i]).max() < 1e-4
        decoded.clear()
    replaced(paths[1], waves[3][::-1], "written over")
    assert open_audio_cache(paths, CONFIG, cache, progress=False).decoded == 1
    assert len(list(cache.iterdir())) == 1


def test_a_large_cache_is_split_into_shards_and_only_a_damaged_clip_is_decoded_again(files, tmp_path, monkeypatch):
    paths, waves = files
    monkeypatch.setattr(audio_shards, "SHARD_BYTES", 12_000)
    audio_cache = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    assert len(audio_cache.shards) == 3 and audio_cache.nbytes == 2 * sum(map(len, waves))
    source = DeviceAudio(audio_cache, torch.device("cpu"))
    for i, wave in enumerate(waves):
        assert np.abs(clip(audio_cache, i) - wave).max() < 1e-4
        assert np.abs(source.batch([i])[0][0, : len(wave)].numpy() - wave).max() < 1e-4
    flat = sorted((tmp_path / "cache").glob("*/*.int16"))[1]
    content = bytearray(flat.read_bytes())
    content[100] ^= 1
    flat.write_bytes(content)
    again = open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    assert again.decoded == 1 and again.digests == audio_cache.digests
    assert open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False).decoded == 0


def test_a_large_cache_is_compared_by_samples_and_as_a_whole_on_demand(files, tmp_path, monkeypatch):
    paths, _ = files
    open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
    monkeypatch.setattr(audio_cache_module, "CHECKED_BYTES", 0)
    monkeypatch.setattr(audio_cache_module, "SAMPLED_CLIPS", 1)
    compared = []
    digest = audio_cache_module.digest
    monkeypatch.setattr(audio_cache_module, "digest", lambda clip: compared.append(len(clip)) or digest(clip))
    assert open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False).decoded == 0
    assert len(compared) == 1
    flat = next((tmp_path / "cache").glob("*/0000.int16"))
    flat.write_bytes(flat.read_bytes()[:-1] + b"\x55")
    assert open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False, verify=True).decoded == 1
    assert open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False, verify=True).decoded == 0


def test_a_killed_decoder_keeps_what_it_wrote_down(files, tmp_path, monkeypatch):
    paths, waves = files
    monkeypatch.setattr(audio_shards, "CHECKPOINT_BYTES", 1)
    decode = audio_cache_module.decode

    def killed(path, *args, **kwargs):
        if path == paths[3]:
            os._exit(9)
        return decode(path, *args, **kwargs)

    if (child := os.fork()) == 0:
        monkeypatch.setattr(audio_cache_module, "decode", killed)
        monkeypatch.setattr(audio_cache_module, "cpu_count", lambda: 1)
        try:
            open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert open_audio_cache(paths, CONFIG, tmp_path / "cache", progress=False).decoded == 1
    check_rebuilt(paths, waves, tmp_path / "cache")


def test_the_index_takes_less_than_100_bytes_a_clip(files, tmp_path):
    copies = [shutil.copy(files[0][0], tmp_path / f"a copy with quite a long name {i}.wav") for i in range(50)]
    open_audio_cache(copies, CONFIG, tmp_path / "cache", progress=False)
    path = next((tmp_path / "cache").glob("*/0000.sealed"))
    assert path.stat().st_size < 50 * 100
    assert len(parsed(path)[0]) == 50


def test_what_one_corpus_has_decoded_a_list_of_corpora_does_not_decode_again(tmp_path):
    paths = {}
    for corpus in ("one", "two"):
        (tmp_path / corpus).mkdir()
        paths[corpus] = [tmp_path / corpus / f"{i}.wav" for i in range(2)]
        for i, path in enumerate(paths[corpus]):
            soundfile.write(path, speechlike(0.3 + 0.1 * i, 150 + 9 * len(paths), i), RATE, subtype="PCM_16")
    both, cache = [*paths["one"], *paths["two"]], tmp_path / "cache"
    open_audio_cache(paths["one"], CONFIG, cache, progress=False)
    partly = open_audio_cache(both, CONFIG, cache, progress=False)
    assert partly.decoded == 2 and partly.folder.is_dir()
    open_audio_cache(paths["two"], CONFIG, cache, progress=False)  # found in the folder of both
    for _ in range(2):
        again = open_audio_cache(both, CONFIG, cache, progress=False)
        assert again.decoded == 0 and again.digests == partly.digests and again.fingerprint == partly.fingerprint
        for i, path in enumerate(both):
            assert np.array_equal(clip(again, i), soundfile.read(path, dtype="float32")[0])
    assert open_audio_cache(both, AudioConfig(trim_db=30.0), cache, progress=False).decoded == 4


@pytest.mark.parametrize("damage", ["samples", "index", "removed"])
def test_damage_in_the_cache_of_one_corpus_does_not_reach_a_list_of_corpora(damage, tmp_path):
    paths = [tmp_path / corpus / "0.wav" for corpus in ("one", "two")]
    for i, path in enumerate(paths):
        path.parent.mkdir()
        soundfile.write(path, speechlike(0.3, 150 + 40 * i, i), RATE, subtype="PCM_16")
    cache = tmp_path / "cache"
    single = open_audio_cache(paths[:1], CONFIG, cache, progress=False).folder
    open_audio_cache(paths, CONFIG, cache, progress=False)
    if damage == "removed":
        shutil.rmtree(single)
    else:
        path = single / {"samples": "0000.int16", "index": "0000.sealed"}[damage]
        path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    again = open_audio_cache(paths, CONFIG, cache, progress=False)
    assert again.decoded == 1
    for i, path in enumerate(paths):
        assert np.array_equal(clip(again, i), soundfile.read(path, dtype="float32")[0])
    assert open_audio_cache(paths, CONFIG, cache, progress=False).decoded == 0
