"""`VectorCache`: the vectors that a frozen network computes from a clip, kept on disk from run to run.

One SQLite file for each network, and in it one row a clip: a hash of the samples, the vector, and a hash of the vector.
Samples and network determine the vector, so nothing ever has to be removed. A row that has changed on the disk is
computed again. Any number of processes may use one file.
"""

import hashlib
import sqlite3
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serx.models.encoders import Encoder

WAIT_SECONDS = 60.0  # for another process that is writing
_HASH_BYTES = 16


class VectorCache:
    """Vectors `(F,)`, or with `rows` any number of them a clip, `(N, F)`, by the samples of the clip.

    A cache that cannot be read or written is a warning, and everything is computed anew: the results are the same.

    >>> import tempfile
    >>> cache = VectorCache(Path(tempfile.mkdtemp()) / "encoder.sqlite", size=3)
    >>> clip = np.zeros(8000, np.float32)
    >>> cache.put([clip], np.array([[1.0, 2.0, 3.0]], np.float32))
    >>> cache.get([clip, clip[:4000]])
    [array([1., 2., 3.], dtype=float32), None]
    """

    def __init__(self, path: Path, size: int, dtype: type[np.floating] = np.float32, rows: bool = False) -> None:
        """The file is made when the first vector is stored; `size` is F."""
        self.path, self.size, self.dtype, self.rows = path, size, np.dtype(dtype), rows
        self._connection: sqlite3.Connection | None = None
        self._usable = True

    def __deepcopy__(self, memo: dict[int, Any]) -> "VectorCache":
        """Copies of a network share the cache."""
        return self

    def get(self, clips: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """The vectors of `clips`, samples `(T,)` float32 each; None where there is none yet."""
        keys = [_hash(clip.tobytes()) for clip in clips]
        rows: dict[bytes, np.ndarray] = {}
        try:
            for key in dict.fromkeys(keys):
                row = self._open().execute("SELECT vector, hash FROM vectors WHERE clip = ?", (key,)).fetchone()
                vector = self._checked(row)
                if vector is not None:
                    rows[key] = vector
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
        return [rows.get(key) for key in keys]

    def put(self, clips: Sequence[np.ndarray], vectors: Sequence[np.ndarray] | np.ndarray) -> None:
        """Stores the vectors of n clips, `(F,)` or `(N, F)` each."""
        blobs = [np.asarray(vector, self.dtype).tobytes() for vector in vectors]
        rows = [(_hash(clip.tobytes()), blob, _hash(blob)) for clip, blob in zip(clips, blobs, strict=True)]
        try:
            with self._open() as connection:
                connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _open(self) -> sqlite3.Connection:
        if not self._usable:
            raise sqlite3.OperationalError("not used after an error")
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=WAIT_SECONDS)
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (clip BLOB PRIMARY KEY, vector BLOB, hash BLOB)")
            self._connection = connection
        return self._connection

    def _checked(self, row: tuple[object, object] | None) -> np.ndarray | None:
        """The vector of a row; None if there is no row, or its content has changed."""
        if row is None or not isinstance(row[0], bytes) or _hash(row[0]) != row[1]:
            return None
        numbers, rest = divmod(len(row[0]), self.dtype.itemsize)
        if rest or numbers % self.size or not numbers or (numbers > self.size and not self.rows):
            return None
        vector = np.frombuffer(row[0], self.dtype)
        return vector.reshape(-1, self.size) if self.rows else vector

    def _give_up(self, error: Exception) -> None:
        if self._usable:
            warnings.warn(
                f"{self.path}: this cache of encoded clips cannot be used ({error}); clips are encoded anew. If it is "
                "damaged, delete it",
                stacklevel=3,
            )
        self._usable = False


def encoder_digest(encoder: Encoder) -> str:
    """A name for an encoder's weights and options."""
    digest = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(repr(encoder.options).encode())
    return digest.hexdigest()[:32]


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_HASH_BYTES).digest()
