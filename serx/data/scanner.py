"""`scan`: find clips in folders and manifests, keep one of several copies, account for every audio file."""

import difflib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from serx.data.audio import LOSSY, UNREADABLE, StrPath, is_audio
from serx.data.corpora import CORPORA, parse_name
from serx.data.manifest import read_manifest
from serx.data.utterance import SkippedFile, Utterance
from serx.errors import DataError


@dataclass(frozen=True)
class Scan:
    """The result of a scan: the clips, sorted by corpus, speaker and codes, and every audio file that is not used.

    >>> Scan(utterances=(), skipped=()).skipped
    ()
    """

    utterances: tuple[Utterance, ...]
    skipped: tuple[SkippedFile, ...]


@dataclass(frozen=True)
class _Clip:
    """A clip, what identifies it within its corpus (`codes`), and what decides between two copies of it."""

    utterance: Utterance
    codes: tuple[str, ...]
    modality: str
    location: tuple[int, int, str]  # index of the root, depth below the root, path from the root


def scan(root: StrPath | Sequence[StrPath], styles: Collection[str] = ("speech",)) -> Scan:
    """Finds the clips of one corpus, of a folder of corpora, of a CSV manifest, or of a list of those.

    Reads file names only and opens no audio. If there are several copies of one utterance (same corpus, same codes),
    it keeps one, by this order of preference: sound published as sound before the sound track of a film (RAVDESS 03
    before 01); lossless before lossy; the copy whose folder holds more clips, so that a few stray copies never replace
    part of a corpus; the earlier root; fewer folders deep; the first path alphabetically. A manifest overrides file
    names: a file that it lists is what the manifest says.

    Args:
        root: corpus folder, folder of corpora, path ending in `.csv`, or a list of those.
        styles: which of `speech` and `song` to keep.

    Raises:
        DataError: a root that is missing or holds no known clip, a manifest with bad rows, two manifests that
            contradict each other, or no clip of the requested styles.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("03-01-05-01-01-01-07.wav", "03-01-04-01-01-01-08.wav", "holiday.wav"):
    ...         Path(folder, name).touch()
    ...     result = scan(folder)
    >>> [(clip.speaker_id, clip.emotion) for clip in result.utterances]
    [('ravdess/07', 'angry'), ('ravdess/08', 'sad')]
    >>> [(file.path.name, file.reason) for file in result.skipped]
    [('holiday.wav', 'unknown_name')]
    """
    wanted = {styles} if isinstance(styles, str) else set(styles)
    if not wanted or not wanted <= {"speech", "song"}:
        raise DataError(f"data.styles {sorted(wanted)}: choose from speech and song")
    roots = [root] if isinstance(root, str | os.PathLike) else list(root)
    if not roots:
        raise DataError("data.root is empty: name a corpus folder, a folder of corpora or a CSV manifest")

    # All three are keyed by path: a file that is found twice, in overlapping roots, counts once.
    listed: dict[Path, _Clip] = {}
    named: dict[Path, _Clip] = {}
    skipped: dict[Path, SkippedFile] = {}
    for number, item in enumerate(roots):
        path = Path(os.path.abspath(os.path.expanduser(item)))
        if path.is_dir():
            _scan_folder(path, number, named, skipped)
        elif path.is_file() and path.suffix.lower() == ".csv":
            _scan_manifest(path, number, listed, skipped)
        else:
            raise DataError(_bad_root(path))

    by_name = [clip for path, clip in named.items() if path not in listed]
    clips = [*_best_copies(by_name, skipped), *listed.values()]
    for clip in clips:
        path, style = clip.utterance.path, clip.utterance.style
        if style not in wanted:
            skipped[path] = SkippedFile(path, "style", f"{style}, which data.styles does not include")
    clips.sort(key=lambda clip: (clip.utterance.corpus, clip.utterance.speaker, clip.codes))
    chosen = tuple(clip.utterance for clip in clips if clip.utterance.style in wanted)
    if not chosen:
        style = clips[0].utterance.style
        raise DataError(
            f"all {len(clips)} clips are {style}: add {style} to data.styles, such as data.styles=[{style}]"
        )
    unused = (skipped[path] for path in sorted(skipped) if path not in listed or skipped[path].reason == "style")
    return Scan(chosen, tuple(unused))


def _scan_folder(root: Path, number: int, named: dict[Path, _Clip], skipped: dict[Path, SkippedFile]) -> None:
    """Adds the clips in and below `root` to `named`, and the audio that is not a clip to `skipped`."""
    count, unused = 0, []
    for path in _audio_in(root):
        local = path.relative_to(root)
        parsed = parse_name(path)
        if path.name.startswith("."):
            unused.append(SkippedFile(path, "hidden", "a macOS side file or another hidden file, not a clip"))
        elif parsed is None:
            unused.append(SkippedFile(path, "unknown_name", "the name matches no corpus that serx knows"))
        elif path.suffix.lower() in UNREADABLE:
            unused.append(SkippedFile(path, "format", f"{path.suffix} cannot be decoded; convert it to WAV or FLAC"))
        elif parsed.modality == "02":
            unused.append(SkippedFile(path, "video_only", "modality 02 is film without sound"))
        elif not path.exists():
            unused.append(SkippedFile(path, "missing", "a link to a file that does not exist"))
        else:
            location = (number, len(local.parts), local.as_posix())
            named.setdefault(path, _Clip(parsed.utterance, parsed.codes, parsed.modality, location))
            count += 1
    if not count:
        raise DataError(_no_clip(root, unused))
    skipped.update((file.path, file) for file in unused)


def _audio_in(root: Path) -> Iterator[Path]:
    """The audio files in and below `root`, sorted per folder. Links are followed; each folder is entered once."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot list this folder: {error.strerror}; fix its permissions") from None

    entered = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders[:] = sorted(name for name in subfolders if name != "__MACOSX" and not name.startswith("."))
        yield from (Path(folder, name) for name in sorted(names) if is_audio(name))


def _scan_manifest(path: Path, number: int, listed: dict[Path, _Clip], skipped: dict[Path, SkippedFile]) -> None:
    manifest = read_manifest(path)
    for utterance in manifest.utterances:
        local = Path(os.path.relpath(utterance.path, path.parent)).as_posix()
        clip = listed.setdefault(utterance.path, _Clip(utterance, (local,), "", (number, 0, local)))
        if clip.utterance != utterance:
            raise DataError(f"{path}: another manifest describes {local!r} differently; list it in one of the two")
    skipped.update((file.path, file) for file in manifest.skipped)


def _best_copies(clips: Sequence[_Clip], skipped: dict[Path, SkippedFile]) -> list[_Clip]:
    """One clip per utterance, by the order of preference that `scan` documents; the copies go to `skipped`."""
    clips_in_folder = Counter(clip.utterance.path.parent for clip in clips)

    def preference(clip: _Clip) -> tuple[object, ...]:
        path = clip.utterance.path
        return clip.modality == "01", path.suffix.lower() in LOSSY, -clips_in_folder[path.parent], clip.location

    best: dict[tuple[str, ...], _Clip] = {}
    for clip in sorted(clips, key=preference):
        kept = best.setdefault((clip.utterance.corpus, *clip.codes), clip)
        if kept is not clip:
            path = clip.utterance.path
            skipped[path] = SkippedFile(path, "duplicate", f"a copy of {kept.utterance.path}")
    return list(best.values())


def _no_clip(root: Path, unused: Sequence[SkippedFile]) -> str:
    example = f", such as {unused[-1].path.name!r}: {unused[-1].detail}" if unused else ""
    names = ", ".join(f"{corpus.name} {corpus.example}" for corpus in CORPORA.values())
    return (
        f"{root}: no known clip among {len(unused)} audio files{example}. Known names: {names}. Name the folder of a "
        "corpus, or list your own recordings in a CSV (columns path, emotion, speaker) and name that"
    )


def _bad_root(path: Path) -> str:
    if path.exists():
        return f"{path}: neither a folder nor a .csv; unpack an archive first, then name the folder"
    parent = next(above for above in path.parents if above.is_dir())
    missing = path.relative_to(parent).parts[0]
    near = difflib.get_close_matches(missing, sorted(os.listdir(parent)), n=1)
    hint = f"did you mean {parent / near[0]}?" if near else "check the spelling"
    return f"{path}: no such folder or manifest ({parent} has no {missing!r}); {hint}"
