"""`scan`: find clips in folders and manifests, keep one of several copies, account for every audio file."""

import difflib
import math
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from serx.data.audio.paths import LOSSY, is_audio
from serx.data.corpora import CORPORA
from serx.data.corpora.by_folder import clips_of_folders
from serx.data.corpora.file_names import ParsedName
from serx.data.corpora.recognition import ChosenCorpora, corpus_of_label_file, recognize
from serx.data.observed_files import file_identity, files_in, is_file, is_folder
from serx.data.tables.audio_finder import audio_root
from serx.data.tables.columns import plain
from serx.data.tables.manifest import Manifest, is_manifest, read_manifest
from serx.data.tables.reading import OPENERS
from serx.data.tables.table import TablesConfig
from serx.data.utterance import SkippedFile, Utterance
from serx.errors import DataError
from serx.files import StrPath

_MAX_SHOWN = 10  # contradictions in one error message
_UNKNOWN = "the name matches no corpus that serx knows"
_NO_EMOTION = "no folder above it is named after an emotion that serx knows; list it in a table"
_MAX_TABLES = 3  # named in the message about a folder without a known clip

# Endings of files beside a recording that say what is said in it, and when.
TRANSCRIPTS = {
    ".csv",
    ".ctm",
    ".json",
    ".lab",
    ".lablaut",
    ".labsilb",
    ".silb",
    ".srt",
    ".textgrid",
    ".trs",
    ".tsv",
    ".txt",
    ".vtt",
    ".wrd",
    ".phn",
    ".xml",
}


@dataclass(frozen=True)
class Scan:
    """A scan: the clips, sorted by corpus, speaker and codes, every audio file that is not used, and notes.

    `notes` say how the columns of tables were understood, and where only its rank decided which corpus a name is of;
    `ties` name rows of tables without a majority of votes.

    >>> Scan(utterances=(), skipped=()).skipped
    ()
    """

    utterances: Sequence[Utterance]
    skipped: tuple[SkippedFile, ...]
    notes: tuple[str, ...] = ()
    ties: tuple[str, ...] = ()


class _Clip(NamedTuple):
    """A clip, what identifies it within its corpus (`codes`), and what decides between two copies of it."""

    utterance: Utterance
    codes: tuple[str, ...]
    recording: int  # rank among the recordings of one utterance
    location: tuple[int, int, str]  # index of the root, depth below the root, path from the root
    file: tuple[int, int] | Path  # equal for all names of one file
    is_row: bool  # a manifest lists it; otherwise its name says what it is

    @property
    def audio(self) -> tuple[tuple[int, int] | Path, float, float | None]:
        """Equal for all names of one part of one file."""
        return self.file, self.utterance.start, self.utterance.end


def scan(
    root: StrPath | Sequence[StrPath],
    styles: Collection[str] = ("speech",),
    tables: TablesConfig | None = None,
    corpora: ChosenCorpora = None,
) -> Scan:
    """Finds the clips of one corpus, of a folder of corpora, of a manifest, or of a list of those.

    Reads file names only and opens no audio. If there are several copies of one utterance (same corpus, same codes),
    it keeps one, by this order of preference: sound published as sound before the sound track of a film (RAVDESS 03
    before 01); lossless before lossy; the copy whose folder holds more clips, so that a few stray copies never replace
    part of a corpus; the earlier root; fewer folders deep; the first path alphabetically. A manifest adds to what file
    names say, such as a split, and must not contradict them; a file counts once, under whatever links it is found.

    Args:
        root: corpus folder, folder of corpora, table (`tables.OPENERS` lists the endings), or a list of those.
        styles: which of `speech` and `song` to keep.
        tables: how manifests are read.
        corpora: names of the only corpora to look for; or folder -> corpus, for the files in that folder; None: all.

    Raises:
        DataError: a root that is missing or holds no known clip, a manifest with bad rows, a file that two manifests
            or a manifest and its name describe differently, or no clip of the requested styles.

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

    listed: list[_Clip] = []
    named: dict[Path, _Clip] = {}  # keyed by path: a file that is found twice, in overlapping roots, counts once
    skipped: dict[Path, SkippedFile] = {}
    notes: list[str] = []
    ties: list[str] = []
    columns: set[str] | None = None  # of all tables
    for number, item in enumerate(roots):
        path = Path(os.path.abspath(os.path.expanduser(item)))
        if is_file(path) and (labels := _label_file(path, tables, corpora)):
            corpus, folder = labels
            notes += _scan_folder(folder, number, named, skipped, [corpus], path)
        elif is_manifest(path) and (corpora is None or is_file(path)):  # a folder of a named corpus is none of tables
            manifest = _scan_manifest(path, number, tables, listed, skipped)
            notes += manifest.notes
            ties += manifest.ties
            columns = (columns or set()) | manifest.columns
        elif is_folder(path):
            notes += _scan_folder(path, number, named, skipped, corpora)
        else:
            raise DataError(f"data.root{'' if len(roots) == 1 else f'.{number}'}: {_bad_root(path)}")

    if columns is not None and tables is not None:
        _check_renamed(tables, columns)
    clips = _one_clip_per_file([*listed, *named.values()], skipped)
    for clip in clips:
        style = clip.utterance.style
        if style not in wanted:
            path = Path(str(clip.utterance.segment))
            skipped[path] = SkippedFile(path, "style", f"{style}, which data.styles does not include")
    clips.sort(key=lambda clip: (clip.utterance.corpus, clip.utterance.speaker, clip.codes))
    chosen = tuple(clip.utterance for clip in clips if clip.utterance.style in wanted)
    if not chosen:
        style = clips[0].utterance.style
        raise DataError(
            f"all {len(clips)} clips are {style}: add {style} to data.styles, such as data.styles=[{style}]"
        )
    used = {path for clip in clips if skipped and (path := Path(str(clip.utterance.segment))) in skipped}
    unused = (skipped[path] for path in sorted(skipped) if path not in used or skipped[path].reason == "style")
    return Scan(chosen, tuple(unused), tuple(dict.fromkeys(notes)), tuple(ties))


def _check_renamed(tables: TablesConfig, columns: Collection[str]) -> None:
    """Raises if `data.columns` names a column that no table has."""
    for name in tables.columns:
        if plain(name) not in columns:
            near = difflib.get_close_matches(plain(name), columns, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"they have {', '.join(sorted(columns))}"
            raise DataError(f"data.columns.{name}: no table has a column {name!r}; {hint}")


def _label_file(path: Path, tables: TablesConfig | None, corpora: ChosenCorpora) -> tuple[str, Path] | None:
    """The corpus that a file lists in its own way, and the folder with its audio; None of a table of one's own.

    With `data.columns` a file is a table.
    """
    if tables is not None and tables.columns:
        return None
    found = corpus_of_label_file(path, corpora)
    if found is None or tables is None or tables.audio_root is None:
        return found
    return found[0], audio_root(tables.audio_root)


def _scan_folder(
    root: Path,
    number: int,
    named: dict[Path, _Clip],
    skipped: dict[Path, SkippedFile],
    corpora: ChosenCorpora,
    label_file: Path | None = None,
) -> list[str]:
    """Adds the clips in and below `root` to `named`, and the audio that is not a clip to `skipped`; returns notes.

    Of the corpus's label files only `label_file` is read, if it is given.
    """
    files = files_in(root)
    found = recognize(root, files, corpora, label_file)
    unknown = _UNKNOWN
    if not (found.clips or found.hints or corpora):
        found.clips, note = clips_of_folders(root, files)
        found.notes += [note] if note else []
        unknown = _NO_EMOTION if found.clips else _UNKNOWN
    count, unused = 0, list(found.missing)
    others: list[tuple[SkippedFile, ParsedName]] = []  # files with the names of clips that are no audio
    heard: set[tuple[str, ...]] = set()
    sounds = {(path.parent, path.stem) for path in files if is_audio(path)}
    for path in files:
        local = path.relative_to(root)
        parsed = found.clips.get(path)
        if not is_audio(path):
            transcript = path.suffix.lower() in TRANSCRIPTS and (path.parent, path.stem) in sounds
            if parsed is not None and not path.name.startswith(".") and not transcript:
                why = f"{path.suffix or 'no ending'} is not audio or video; rename or convert it"
                others.append((SkippedFile(path, "format", why), parsed))
        elif path.name.startswith("."):
            unused.append(SkippedFile(path, "hidden", "a macOS side file or another hidden file, not a clip"))
        elif parsed is None:
            why = found.hints.get(path, unknown)
            unused.append(SkippedFile(path, "unknown_name", why))
        elif parsed.recording is None:
            unused.append(SkippedFile(path, "video_only", "a film without sound"))
        elif (file := file_identity(path)) is None:
            unused.append(SkippedFile(path, "missing", "a link to a file that does not exist"))
        else:
            location = (number, len(local.parts), local.as_posix())
            named.setdefault(path, _Clip(parsed.utterance, parsed.codes, parsed.recording, location, file, False))
            heard.add((parsed.corpus, *parsed.codes))
            count += 1
    for other, named_so in others:  # what has the ending of text and belongs to a recording describes it
        if other.path.suffix.lower() not in TRANSCRIPTS or (named_so.corpus, *named_so.codes) not in heard:
            unused.append(other)
    if not count:
        raise DataError(_no_clip(root, unused, [path for path in files if path.suffix.lower() in OPENERS]))
    skipped.update((file.path, file) for file in unused)
    return found.notes


def _scan_manifest(
    path: Path, number: int, tables: TablesConfig | None, listed: list[_Clip], skipped: dict[Path, SkippedFile]
) -> Manifest:
    """Adds the rows of a manifest to `listed`, and the audio in its folder that no row names to `skipped`."""
    manifest = read_manifest(path, tables)
    folder, inside = path.parent, f"{path.parent}{os.sep}"
    for utterance, identity in zip(manifest.utterances, manifest.files, strict=True):
        name = str(utterance.path)
        name = name[len(inside) :] if name.startswith(inside) else os.path.relpath(name, folder)
        local = name.replace(os.sep, "/")
        end = math.inf if utterance.end is None else utterance.end
        part = () if utterance.is_whole_file else (f"{utterance.start:020.9f}", f"{end:020.9f}")
        listed.append(_Clip(utterance, (local, *part), 0, (number, 0, local), identity, True))
    skipped.update((file.path, file) for file in manifest.skipped)
    if is_folder(path):
        rows = {utterance.path for utterance in manifest.utterances}
        for file in filter(is_audio, files_in(path)):
            if file not in rows and not file.name.startswith("."):
                skipped[file] = SkippedFile(file, "unlisted", "no row of the tables in this folder names it")
    return manifest


def _one_clip_per_file(clips: Sequence[_Clip], skipped: dict[Path, SkippedFile]) -> list[_Clip]:
    """The rows of manifests, and of the clips known by their names the best copies, each part of a file once.

    A file of which a manifest lists parts is not another clip. Raises if a file is described twice and differently.
    """
    first: dict[object, _Clip] = {}
    part_of: dict[tuple[int, int] | Path, _Clip] = {}  # a file -> a row that lists a part of it
    faults = []
    for clip in clips:  # the rows come before the names
        if clip.is_row and not clip.utterance.is_whole_file:
            part_of.setdefault(clip.file, clip)
        known = first.setdefault(clip.audio, clip)
        if known is clip and not clip.is_row:
            known = part_of.get(clip.file, clip)
        row, other = (clip, known) if clip.is_row else (known, clip)
        if known is not clip and (differences := _differences(row, other)):
            faults.append(
                f"{row.utterance.source}: {row.utterance.segment.name!r} is described differently by "
                f"{other.utterance.source} ({differences}); make both the same, or leave one out"
            )
    if faults:
        more = [f"... and {len(faults) - _MAX_SHOWN} more"] if len(faults) > _MAX_SHOWN else []
        raise DataError("\n".join([*faults[:_MAX_SHOWN], *more]))
    kept = {audio: clip for audio, clip in first.items() if clip.is_row}
    named = [clip for clip in clips if not clip.is_row]
    rows = {clip.file: clip for clip in kept.values()} if named else {}
    for clip in _best_copies(named, rows, skipped):
        path = clip.utterance.path
        if clip.file in part_of and clip.audio not in kept:
            listed = part_of[clip.file].utterance.source
            skipped[path] = SkippedFile(path, "duplicate", f"{listed} lists a part of it")
            continue
        known = kept.setdefault(clip.audio, clip)
        if known is not clip:
            skipped[path] = SkippedFile(path, "duplicate", f"the same file as {known.utterance.path}")
    return list(kept.values())


def _differences(clip: _Clip, other: _Clip) -> str:
    """What two descriptions of one file say differently.

    A manifest may say more than a file's name does, and has words of its own for intensities. A part of a file may have
    another emotion than the whole.
    """
    both_rows = clip.is_row and other.is_row
    differences = []
    for name in ("corpus", "speaker", "emotion", "style", "sex", "intensity", "part"):
        one, two = getattr(clip.utterance, name), getattr(other.utterance, name)
        adds = one is None or two is None or name == "intensity"
        adds = adds or (name == "emotion" and not clip.utterance.is_whole_file)
        if one != two and (both_rows or not adds):
            differences.append(f"{'split' if name == 'part' else name} {one or 'unknown'}, not {two or 'unknown'}")
    return "; ".join(differences)


def _best_copies(
    clips: Sequence[_Clip], rows: Collection[tuple[int, int] | Path], skipped: dict[Path, SkippedFile]
) -> list[_Clip]:
    """One clip per utterance, by the order of preference that `scan` documents; the copies go to `skipped`.

    A file that a manifest lists comes first: a copy of it is not another clip.
    """
    clips_in_folder = Counter(clip.utterance.path.parent for clip in clips)

    def preference(clip: _Clip) -> tuple[object, ...]:
        path = clip.utterance.path
        order = clip.recording, path.suffix.lower() in LOSSY, -clips_in_folder[path.parent], clip.location
        return clip.file not in rows, *order

    best: dict[tuple[str, ...], _Clip] = {}
    for clip in sorted(clips, key=preference):
        kept = best.setdefault((clip.utterance.corpus, *clip.codes), clip)
        if kept is not clip:
            path, same = clip.utterance.path, clip.recording == kept.recording
            what = "a copy of" if same else "another recording of the utterance in"
            skipped[path] = SkippedFile(path, "duplicate", f"{what} {kept.utterance.path}")
    return list(best.values())


def _no_clip(root: Path, unused: Sequence[SkippedFile], tables: Sequence[Path]) -> str:
    reasons = Counter(file.detail for file in reversed(unused) if file.detail != _UNKNOWN)
    why = reasons.most_common(1)[0][0] if reasons else _UNKNOWN
    example = next((f", such as {file.path.name!r}: {why}" for file in reversed(unused) if file.detail == why), "")
    shown = [corpus for corpus in CORPORA.values() if corpus.rank < 2]
    names = ", ".join(f"{corpus.name} {corpus.example}" for corpus in shown)
    listed = [path.relative_to(root).as_posix() for path in tables if not path.name.startswith(".")]
    more = f" and {len(listed) - _MAX_TABLES} more" if len(listed) > _MAX_TABLES else ""
    names_of_tables = ", ".join(listed[:_MAX_TABLES]) + more
    there = f". There is {names_of_tables}: if it lists these files, name it instead" if listed and unused else ""
    return (
        f"{root}: no known clip among {len(unused)} audio files{example}. Known names: {names}, and those of "
        f"{len(CORPORA) - len(shown)} more corpora, which `serx corpora` lists. Name the folder of a corpus, or list "
        f"your own recordings in a CSV (columns path, emotion, speaker) and name that{there}"
    )


def _bad_root(path: Path) -> str:
    if path.exists():
        endings = ", ".join(OPENERS)
        if path.suffix.lower() in {".xlsx", ".xls", ".ods", ".numbers"}:
            return f"{path}: a spreadsheet; save it as CSV and name that"
        return f"{path}: neither a folder nor a table ({endings}); unpack an archive first, then name the folder"
    parent = next(above for above in path.parents if above.is_dir())
    missing = path.relative_to(parent).parts[0]
    near = difflib.get_close_matches(missing, sorted(os.listdir(parent)), n=1)
    hint = f"did you mean {parent / near[0]}?" if near else "check the spelling"
    return f"{path}: no such folder or manifest ({parent} has no {missing!r}); {hint}"
