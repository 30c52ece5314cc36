"""`AudioFinder`: the audio file that a cell of a table names, at its path or below `data.audio_root`."""

import os
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from serx.data.audio.paths import is_audio
from serx.data.observed_files import FileIdentity, file_identity, files_in, is_folder
from serx.data.tables.cells import BadCellError
from serx.errors import DataError
from serx.system import WINDOWS


def audio_root(text: str) -> Path:
    """The folder that `data.audio_root` names.

    Raises:
        DataError: there is no such folder.
    """
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if not is_folder(path):
        raise DataError(f"data.audio_root: {path}: no such folder; name the one with the audio files")
    return path


class AudioFinder:
    """Finds the audio file that a table names."""

    def __init__(self, root: str | None) -> None:
        self._absolute: dict[tuple[Path, str], str] = {}
        self._root = None if root is None else audio_root(root)

    def find(self, folder: Path, cell: str) -> tuple[Path, FileIdentity | None]:
        """The file and its `file_identity`, or where it would be and None.

        Raises:
            BadCellError: there are several below `data.audio_root`.
        """
        if cell[:5].casefold() != "file:":
            path = Path(self._join(self._root or folder, cell))
            if (file := file_identity(path)) is not None:
                return path, file
        return self._search(folder, cell)

    def _join(self, base: Path, cell: str) -> str:
        """The absolute path of a cell; most have few folders, which are joined once."""
        head, slash, name = cell.rpartition("/")
        if WINDOWS or name in ("", ".", "..") or "\0" in cell:
            return os.path.abspath(os.path.join(base, cell))
        folder = self._absolute.get((base, head + slash))
        if folder is None:
            folder = os.path.join(os.path.abspath(os.path.join(base, head + slash)), "")
            self._absolute[base, head + slash] = folder
        return folder + name

    def _search(self, folder: Path, cell: str) -> tuple[Path, FileIdentity | None]:
        """The file of a cell that is not simply its path."""
        base = self._root or folder
        if cell.casefold().startswith("file://"):
            cell = unquote(urlsplit(cell).path)
        path, file = _file_at(base, cell)
        if file is None and "%" in cell:  # as in addresses: %20 is a space
            decoded, file = _file_at(base, unquote(cell))
            path = path if file is None else decoded
        if file is None and "\\" in cell:  # a table written on Windows
            cell = cell.replace("\\", "/")
            path, file = _file_at(base, cell)
        if file is not None or self._root is None or path.exists():
            return path, file
        found: list[Path] = []
        for name in dict.fromkeys((cell.rpartition("/")[2], unquote(cell).rpartition("/")[2])):
            found = found or self._by_name.get(name) or ([] if is_audio(name) else self._by_stem.get(name, []))
        if len(found) > 1:
            shown = " and ".join(os.path.relpath(other, self._root) for other in found[:3])
            raise BadCellError(
                f"{name!r} is found {len(found)} times below {self._root}, such as {shown}; write the folder as well"
            )
        return (found[0], file_identity(found[0])) if found else (path, None)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in filter(is_audio, files_in(self._root or Path())):
            found.setdefault(path.name, []).append(path)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for name, paths in self._by_name.items():
            found.setdefault(os.path.splitext(name)[0], []).extend(paths)
        return found


def _file_at(base: Path, cell: str) -> tuple[Path, FileIdentity | None]:
    path = Path(os.path.abspath(os.path.join(base, cell)))
    return path, file_identity(path)
