"""The cache of encoded clips returns what was stored, detects damage, and is never needed."""

import multiprocessing
import sqlite3

import numpy as np
import pytest

from serx.models.vector_cache import VectorCache

RANDOM = np.random.default_rng(0)
CLIPS = [RANDOM.standard_normal(size).astype(np.float32) for size in (100, 200, 100)]
VECTORS = RANDOM.standard_normal((3, 5)).astype(np.float32)


def test_a_vector_is_found_by_the_samples_of_its_clip(tmp_path):
    VectorCache(tmp_path / "new" / "cache.sqlite", 5).put(CLIPS, VECTORS)
    cache = VectorCache(tmp_path / "new" / "cache.sqlite", 5)
    assert all((found == vector).all() for found, vector in zip(cache.get(CLIPS), VECTORS, strict=True))
    changed = CLIPS[0].copy()
    changed[50] += 1e-6
    assert cache.get([changed, CLIPS[1][:199]]) == [None, None]


def test_a_row_that_has_changed_on_the_disk_is_not_used(tmp_path):
    path = tmp_path / "cache.sqlite"
    VectorCache(path, 5).put(CLIPS, VECTORS)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE vectors SET vector = zeroblob(20) WHERE rowid = 1")
        connection.execute("UPDATE vectors SET vector = 7 WHERE rowid = 2")
    found = VectorCache(path, 5).get(CLIPS)
    assert sum(vector is None for vector in found) == 2
    assert VectorCache(path, 6).get(CLIPS) == [None] * 3  # vectors of another size


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_file_is_one_warning_and_no_vectors(tmp_path, content):
    path = tmp_path / "cache.sqlite"
    path.write_bytes(content)
    cache = VectorCache(path, 5)
    with pytest.warns(UserWarning, match="cannot be used") as warned:  # noqa: PT031  (one warning for all three)
        assert cache.get(CLIPS) == [None] * 3
        cache.put(CLIPS, VECTORS)
        assert cache.get(CLIPS) == [None] * 3
    assert len(warned) == 1


def test_a_folder_that_cannot_be_made_is_one_warning(tmp_path):
    (tmp_path / "file").touch()
    cache = VectorCache(tmp_path / "file" / "cache.sqlite", 5)
    with pytest.warns(UserWarning, match="cannot be used"):
        cache.put(CLIPS, VECTORS)


def fill(path, start):
    for i in range(start, 40, 2):
        VectorCache(path, 2).put([np.full(10, i, np.float32)], np.full((1, 2), i, np.float32))


def test_two_processes_fill_one_cache(tmp_path):
    path = tmp_path / "cache.sqlite"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=fill, args=(path, start)) for start in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = VectorCache(path, 2).get([np.full(10, i, np.float32) for i in range(40)])
    assert [None if vector is None else vector[0] for vector in found] == list(range(40))
