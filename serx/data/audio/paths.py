"""Which files are of sound or video, by their endings; and all those of a folder."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from serx.errors import DataError
from serx.files import StrPath

# File endings of audio, for the whole package: a folder's other files are passed over. A file that is named is read
# whatever its ending. The first line is what libsndfile names its formats; header-less samples (raw, pcm, g722) are
# missing, since their sample rate is unknown, and so is ts, which is also program text.
_LOSSLESS = """aif aifc aiff au avr caf flac htk iff ircam mat mat4 mat5 mpc2k nist paf pvf rf64 sd2 sds sf snd sph
    svx voc w64 wav wave wavex wve xi
    ape bwf dsf tak tta wv"""
_LOSSY = """mp1 mp2 mp3 mpc oga ogg opus
    3g2 3ga 3gp aa aac aax ac3 adts amr asf avi awb dts eac3 f4a f4v flv gsm gxf loas m2ts m4a m4b m4p m4r m4v mka mkv
    mov mp4 mpeg mpg mts mxf nut oma ogv qcp qt ra rm spx vob weba webm wma wmv wtv"""
LOSSLESS, LOSSY = (frozenset(map(".{}".format, s.split())) for s in (_LOSSLESS, _LOSSY))


def is_audio(path: StrPath) -> bool:
    """Whether the file's ending is one of audio or video.

    >>> is_audio("a.WAV"), is_audio("a.m4a"), is_audio("notes.txt")
    (True, True, False)
    """
    return os.path.splitext(path)[1].lower() in LOSSLESS | LOSSY


def audio_files(paths: Sequence[StrPath], passed_over: dict[Path, str] | None = None) -> list[Path]:
    """The files among `paths`, and all audio files in and below the folders among them, in sorted order per folder.

    Args:
        paths: files and folders.
        passed_over: gets the other files of the folders, with the reasons: hidden, or not an ending of audio or video.

    Raises:
        DataError: a folder holds no audio file, or cannot be read.
    """
    files: list[Path] = []
    others: dict[Path, str] = {} if passed_over is None else passed_over
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        in_folder, others_here = [], {}
        for found in sorted(_files_below(path)):
            if found.name.startswith("."):
                others_here[found] = "hidden"
            elif is_audio(found):
                in_folder.append(found)
            else:
                others_here[found] = f"{found.suffix or 'no ending'} is not audio or video"
        if not in_folder:
            raise DataError(f"{path}: no audio files in this folder{_counted(others_here)}; name another one")
        files += in_folder
        others.update(others_here)
    return files


def _counted(others: dict[Path, str]) -> str:
    reasons = Counter(others.values()).most_common()
    return f" among {len(others)} files ({', '.join(f'{n} x {reason}' for reason, n in reasons)})" if others else ""


def _files_below(folder: Path) -> Iterator[Path]:
    """All files in and below a folder. Raises `DataError` where a folder cannot be read, which `rglob` would skip."""

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: this folder cannot be read: {error.strerror}") from error

    for parent, _, names in os.walk(folder, onerror=fail):
        yield from (Path(parent, name) for name in names)
