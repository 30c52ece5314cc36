"""Streamed audio: read by one thread in advance, in an order that a disk reads fast."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from serx.data.batches import DeviceAudio, StreamedAudio
from serx.data.cache import clip_reader
from serx.data.cache.audio_cache import AudioCache
from serx.data.cache.clip_reader import ClipReader, blocks_of, by_windows
from serx.data.read_ahead import DEPTH, reading_ahead
from serx.errors import DiskError
from serx.inference.classify import predict

CPU = torch.device("cpu")
LENGTHS = np.array([1000, 1, 3000, 2500, 700, 0, 900])
BATCHES = [np.array([3, 0]), np.array([6]), np.array([5, 1, 4]), np.array([2, 2])]


def on_disk(folder: Path, lengths: np.ndarray = LENGTHS, shards: int = 2) -> AudioCache:
    """Clips that take turns in several shards, at other scales."""
    random, n = np.random.default_rng(0), len(lengths)
    shard, starts, mapped = np.arange(n, dtype=np.int32) % shards, np.zeros(n, np.int64), []
    for k in range(shards):
        own = np.flatnonzero(shard == k)
        starts[own] = np.cumsum(lengths[own]) - lengths[own]
        samples = random.integers(-32768, 32767, int(lengths[own].sum()), np.int16)
        samples.tofile(folder / f"{k}.int16")
        mapped.append(np.memmap(folder / f"{k}.int16", np.int16, "r"))
    in_memory = AudioCache.in_memory(np.zeros(0, np.int16), lengths, random.random(n).astype(np.float32))
    return replace(in_memory, shards=tuple(mapped), shard=shard, starts=starts)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "serx-read-ahead"]


def test_batches_read_ahead_equal_those_of_device_memory(tmp_path):
    audio_cache = on_disk(tmp_path)
    resident = DeviceAudio(audio_cache, CPU)
    with reading_ahead(StreamedAudio(audio_cache, CPU), BATCHES) as source:
        for clips in BATCHES:
            for streamed, expected in zip(source.batch(clips), resident.batch(clips), strict=True):
                assert streamed.dtype == expected.dtype
                torch.testing.assert_close(streamed, expected, rtol=0, atol=0)
    assert not threads()


def test_audio_in_device_memory_is_not_read_ahead(tmp_path):
    source = DeviceAudio(on_disk(tmp_path), CPU)
    with reading_ahead(source, BATCHES) as same:
        assert same is source
        assert not threads()


def test_one_thread_reads_a_few_batches_ahead_and_no_more(tmp_path):
    reads = threading.Semaphore(0)
    source = StreamedAudio(on_disk(tmp_path), CPU)
    whole = source.host_batch

    def counted(clips):
        batch = whole(clips)
        reads.release()
        return batch

    source.host_batch = counted  # type: ignore[method-assign]
    with reading_ahead(source, [np.array([0])] * 20) as ahead:
        assert all(reads.acquire(timeout=20) for _ in range(DEPTH))  # before any is asked for
        assert threads() == ["serx-read-ahead"]
        assert not reads.acquire(timeout=0.05)
        ahead.batch(np.array([0]))
        assert reads.acquire(timeout=20)
        assert not reads.acquire(timeout=0.05)
    assert not threads()


def test_an_error_in_the_thread_is_raised_where_its_batch_is_asked_for(tmp_path):
    audio_cache = on_disk(tmp_path)
    with (tmp_path / "1.int16").open("r+b") as file:
        file.truncate(2 * int(LENGTHS[1] + LENGTHS[3]) - 1)  # clip 3 ends too early
    batches = [np.array([0]), np.array([3]), np.array([2])]
    with reading_ahead(StreamedAudio(audio_cache, CPU), batches) as source:
        source.batch(batches[0])
        for _ in range(2):
            with pytest.raises(DiskError, match="1.int16: has become shorter"):
                source.batch(batches[1])
    assert not threads()


def test_a_shard_that_vanished_is_one_clear_line(tmp_path):
    audio_cache = on_disk(tmp_path)
    (tmp_path / "0.int16").unlink()
    with pytest.raises(DiskError, match="0.int16: cannot read decoded audio: No such file"):
        StreamedAudio(audio_cache, CPU).batch([0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_no_thread_is_left_when_the_training_is_interrupted(tmp_path, error):
    source = StreamedAudio(on_disk(tmp_path), CPU)

    def interrupted(_: object) -> None:
        raise error

    with pytest.raises(error), reading_ahead(source, [np.array([0])] * 50) as ahead:
        interrupted(ahead.batch(np.array([0])))
    assert not threads()


def test_another_batch_than_announced_is_refused(tmp_path):
    streamed = StreamedAudio(on_disk(tmp_path), CPU)
    with reading_ahead(streamed, BATCHES) as source, pytest.raises(IndexError, match="another batch"):
        source.batch(BATCHES[1])
    with reading_ahead(streamed, []) as source, pytest.raises(IndexError, match="more batches"):
        source.batch(BATCHES[1])


def test_reading_a_corpus_leaves_none_of_it_in_memory(tmp_path):
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("needs /proc")
    lengths = np.full(64, 500_000)  # 64 MB
    source = StreamedAudio(on_disk(tmp_path, lengths), CPU)
    source.batch([0])

    def resident_bytes() -> int:
        return int(statm.read_text().split()[1]) * 4096

    before = resident_bytes()
    batches = np.arange(64)[:, None]
    with reading_ahead(source, batches) as ahead:
        for clips in batches:
            ahead.batch(clips)
    assert resident_bytes() - before < 25e6


def windows_of(monkeypatch, block: int, window: int) -> None:
    monkeypatch.setattr(clip_reader, "BLOCK_BYTES", block)
    monkeypatch.setattr(clip_reader, "WINDOW_BYTES", window)


def test_an_epoch_takes_every_clip_once_window_by_window(monkeypatch):
    windows_of(monkeypatch, 100, 400)
    lengths = np.random.default_rng(0).integers(1, 40, 500)
    blocks = blocks_of(lengths)
    order = by_windows(torch.randperm(500), blocks, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(500))
    seen = blocks[order.numpy()]
    first, last = {}, {}
    for place, block in enumerate(seen.tolist()):
        first.setdefault(block, place)
        last[block] = place
    begun = [sum(first[b] <= place <= last[b] for b in first) for place in range(500)]
    assert max(begun) <= 4  # blocks that are in use at once
    assert (np.diff(seen) < 0).any()  # blocks and clips are shuffled
    assert not (np.diff(order.numpy()) == 1).all()


def test_the_order_follows_from_the_draws_alone(monkeypatch):
    windows_of(monkeypatch, 100, 400)
    blocks = blocks_of(np.full(300, 20))

    def order(seed: int) -> list[int]:
        random = torch.Generator().manual_seed(seed)
        return by_windows(torch.randperm(300, generator=random), blocks, random).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_a_corpus_of_one_window_keeps_its_order():
    order = torch.randperm(100)
    assert by_windows(order, blocks_of(np.full(100, 16_000)), torch.Generator()).tolist() == order.tolist()


@pytest.mark.skipif(not hasattr(clip_reader.os, "posix_fadvise"), reason="the system takes no such advice")
def test_whole_blocks_are_requested_once_from_front_to_back(tmp_path, monkeypatch):
    windows_of(monkeypatch, 4000, 8000)
    lengths = np.full(12, 1000)  # two clips a block, one in each shard
    reader, asked, requested = ClipReader(on_disk(tmp_path, lengths)), [], set()
    monkeypatch.setattr(clip_reader.os, "posix_fadvise", lambda file, *rest: asked.append(rest[:2]))
    reader.request(np.array([3, 0, 2]), requested)
    assert asked == [(0, 2000), (0, 2000), (2000, 2000), (2000, 2000)]
    reader.request(np.array([1, 3]), requested)
    assert len(asked) == 4
    one = ClipReader(replace(on_disk(tmp_path, lengths, shards=1)))
    one.request(np.array([5]), set())
    assert asked[4:] == [(8000, 4000)]  # neighbors in one request


def test_predictions_of_a_streamed_corpus_are_read_ahead_and_equal_those_of_device_memory(tmp_path):
    audio_cache, clips = on_disk(tmp_path, np.full(40, 4000)), np.arange(40)[::-1].copy()
    reading: list[str] = []

    class Recorded(StreamedAudio):
        def host_batch(self, clips):
            reading.append(threading.current_thread().name)
            return super().host_batch(clips)

    class Sums:
        def eval(self):
            return self

        def predictions(self, waveform, lengths):
            return waveform.sum(1, keepdim=True), lengths[:, None]

    lengths = audio_cache.lengths[clips]
    streamed = predict(Sums(), Recorded(audio_cache, CPU), clips, lengths)
    resident = predict(Sums(), DeviceAudio(audio_cache, CPU), clips, lengths)
    assert reading == ["serx-read-ahead"] * 3 and not threads()
    assert all(np.array_equal(one, two) for one, two in zip(streamed, resident, strict=True))
