"""`recognize`: which files of a folder are clips of which corpus.

Label files come first: what they list is theirs. The other files are known by their names (`file_names`). Last,
transcripts with labels say what the names leave open.

A name that fits several corpora belongs to

1. the one that fits all related names of its folder, or else of the folders around it;
2. then the one that a folder is named after;
3. then the one whose names are written so, capitals and all;
4. then the corpus of lower rank, with a note.

If some names of a folder fit only one corpus and others only another, or if nothing decides, the scan stops with an
error that says what to set.
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from serx.data.audio.paths import is_audio
from serx.data.corpora.declaration import Corpus
from serx.data.corpora.file_names import ParsedName, parse_names
from serx.data.corpora.readers import READERS, VOTE_TABLES, Label, cremad_votes
from serx.data.corpora.registry import CORPORA, known_corpus
from serx.data.corpora.spelling import canonical_speaker
from serx.data.labels import normalize_emotion
from serx.data.observed_files import is_file, is_folder
from serx.data.utterance import UNKNOWN_SPEAKER, SkippedFile, Utterance
from serx.errors import ConfigError, DataError

# Which corpora to look for: those listed, or in each folder one; None: all.
ChosenCorpora = Sequence[str] | Mapping[str, str] | None
_FIRST, _REGISTERED = 0, 1  # ranks


@dataclass
class Recognized:
    """The clips of a folder, the clips of label files without audio, and lines for the user."""

    clips: dict[Path, ParsedName] = field(default_factory=dict)
    hints: dict[Path, str] = field(default_factory=dict)  # why a file whose name fits a corpus is not used
    missing: list[SkippedFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def recognize(
    root: Path, files: Sequence[Path], chosen: ChosenCorpora = None, label_file: Path | None = None
) -> Recognized:
    """Finds the clips among the files of a folder.

    Args:
        root: the folder, absolute.
        files: all files in and below it.
        chosen: names of the only corpora to look for; or folder -> corpus, for what is in that folder; or None.
        label_file: the only label file to read, wherever it lies; None: all in and below the folder.

    Raises:
        ConfigError: `chosen` names an unknown corpus.
        DataError: a label file that cannot be read, or names that fit several corpora of which nothing says which.
    """
    search = _Search(chosen)
    found = Recognized()
    if label_file is None:
        _read_label_files(files, search, found)
    else:
        for corpus in search.corpora(root):
            labels = READERS[corpus.name].read(root, [label_file]) if corpus.name in READERS else None
            _find_audio(corpus, root, labels or (), files, found)
    fits = {
        path: parsed
        for path in files
        if path not in found.clips and not path.name.startswith(".") and (parsed := search.fits(path))
    }
    _settle(root, fits, search, found)
    if label_file is None:
        _read_label_files([path for path in files if path not in found.clips], search, found, fallback=True)
    _add_votes(files, found)
    for path in files:
        if path not in found.clips and path not in found.hints and (why := _unlabeled(path)):
            found.hints[path] = why
    return found


def corpus_of_label_file(path: Path, chosen: ChosenCorpora = None) -> tuple[str, Path] | None:
    """The corpus whose label file this is, and the corpus's folder; None if it is something else.

    Raises:
        ConfigError: `chosen` names an unknown corpus.
        DataError: a label file that cannot be read.
    """
    search = _Search(chosen)
    for name, reader in READERS.items():
        match = reader.files.search(path.as_posix())
        base = Path(path.as_posix()[: match.start()] or "/") if match else path.parent
        if match is None or CORPORA[name] not in search.corpora(base) or not search.is_sure(CORPORA[name], base):
            continue
        if not reader.fallback and reader.read(base, [path]) is not None:
            return name, base
    return None


def _unlabeled(path: Path) -> str:
    """Why a file is no clip that is named as one of a corpus with label files, or as other files of a corpus are.

    Empty for other names.
    """
    stem = path.stem
    for name, reader in READERS.items():
        if reader.audio is not None and reader.audio.fullmatch(stem):
            return f"no label file lists it: name the folder of {CORPORA[name].title} that holds its label files too"
    for corpus in CORPORA.values():
        for other, why in corpus.others:
            if other.fullmatch(stem):
                return f"{corpus.title}: {why}"
    return ""


class _Search:
    """Which corpora are looked for in which folder."""

    def __init__(self, chosen: ChosenCorpora) -> None:
        self._only: tuple[str, ...] | None = None
        self._by_folder: dict[Path, str] = {}
        self._cache: dict[Path, tuple[Corpus, ...]] = {}
        if isinstance(chosen, Mapping):
            for folder, name in chosen.items():
                path = Path(os.path.abspath(os.path.expanduser(folder)))
                if not is_folder(path):
                    raise ConfigError(f"data.corpora.{folder}: no such folder; check the spelling")
                self._by_folder[path] = known_corpus(f"data.corpora.{folder}", name)
        elif chosen is not None:
            self._only = tuple(known_corpus(f"data.corpora.{number}", name) for number, name in enumerate(chosen))

    def corpora(self, folder: Path) -> tuple[Corpus, ...]:
        """The corpora that are looked for in a folder."""
        if folder not in self._cache:
            self._cache[folder] = self._corpora(folder)
        return self._cache[folder]

    def _corpora(self, folder: Path) -> tuple[Corpus, ...]:
        for above in (folder, *folder.parents) if self._by_folder else ():
            if above in self._by_folder:
                return (CORPORA[self._by_folder[above]],)
        if self._only is not None:
            return tuple(CORPORA[name] for name in self._only)
        return tuple(CORPORA.values())

    def is_sure(self, corpus: Corpus, folder: Path) -> bool:
        """Whether names that fit a corpus are its clips: some are so common that its folder or the user must name "
        "it."""
        if not corpus.needs_folder or self._only is not None or len(self.corpora(folder)) == 1:
            return True
        return any(map(corpus.is_named_by, folder.parts))

    def fits(self, path: Path) -> tuple[ParsedName, ...]:
        """What a file's name says, once for each corpus that it may belong to."""
        parsed = parse_names(path, self.corpora(path.parent))
        if len(parsed) > 1 and any(CORPORA[p.corpus].rank == _FIRST for p in parsed):
            return tuple(p for p in parsed if CORPORA[p.corpus].rank != _REGISTERED)
        return parsed


def _read_label_files(files: Sequence[Path], search: _Search, found: Recognized, fallback: bool = False) -> None:
    """Adds what label files list to `found`; with `fallback`, what those list that only add to names."""
    texts = [(path, path.as_posix()) for path in files if not is_audio(path)]
    for name, reader in READERS.items():
        if reader.fallback != fallback:
            continue
        bases: dict[Path, list[Path]] = defaultdict(list)
        for path, text in texts:
            if match := reader.files.search(text):
                bases[Path(text[: match.start()] or "/")].append(path)
        for base, paths in bases.items():
            corpus = CORPORA[name]
            if corpus not in search.corpora(base) or not search.is_sure(corpus, base):
                continue
            labels = reader.read(base, sorted(paths))
            if labels is not None:
                _find_audio(corpus, base, labels, files, found, complete=not fallback)


def _find_audio(
    corpus: Corpus, base: Path, labels: Iterable[Label], files: Sequence[Path], found: Recognized, complete: bool = True
) -> None:
    """Adds the clips of labels to `found`; if `complete`, also the labels without audio."""
    audio: dict[str, list[Path]] = defaultdict(list)
    in_folders: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        if is_audio(path) and not path.name.startswith(".") and base in path.parents:
            audio[path.stem.casefold()].append(path)
    for label in labels:
        name = label.name.casefold()
        if "/" in name and not in_folders:
            for path in itertools.chain(*audio.values()):
                in_folders[f"{path.parent.name}/{path.stem}".casefold()].append(path)
        named = in_folders[name] if "/" in name else audio[name]
        paths = [path for path in named if _is_within(path, base, label.within)]
        if not paths and complete:
            detail = f"{label.line} lists it, but no audio file has this name"
            found.missing.append(SkippedFile(base / label.name, "missing", detail))
        for path in paths:
            parsed = _labeled(corpus, label, path)
            known = found.clips.setdefault(path, parsed)
            if known.corpus != corpus.name:
                raise DataError(
                    f"{label.line}: {path} is a clip of {known.corpus} too, by {known.utterance.source}; keep each "
                    f"corpus in a folder of its own, or set data.corpora=[{corpus.name}]"
                )
            _check_agreement(known.utterance, parsed.utterance)
            if parsed.utterance.votes and not known.utterance.votes:  # of two label files the one that says more
                found.clips[path] = parsed


def _check_agreement(known: Utterance, clip: Utterance) -> None:
    """Raises if two label files of a corpus say different things about a clip."""
    for what in ("emotion", "speaker", "part"):
        one, two = getattr(known, what), getattr(clip, what)
        if one != two:
            raise DataError(
                f"{clip.source}: {clip.path.name} has {what} {two}, but {one} by {known.source}; keep one of the two "
                "label files"
            )


def _is_within(path: Path, base: Path, words: Sequence[str]) -> bool:
    folders = [part.casefold() for part in path.relative_to(base).parts[:-1]]
    return not words or any(folder.startswith(tuple(words)) for folder in folders)


def _labeled(corpus: Corpus, label: Label, path: Path) -> ParsedName:
    emotion = corpus.emotions.get(label.emotion) or normalize_emotion(label.emotion)
    if not any(letter.isalpha() for letter in emotion):
        raise DataError(f"{label.line}: no emotion for {label.name}; get a fresh copy of this file")
    written = label.speaker or ""
    speaker = canonical_speaker(written).replace("/", "-")
    speaker = corpus.spelled.get(written.upper()) or corpus.spelled.get(speaker.upper(), speaker)
    known = bool(speaker) and corpus.speakers_known
    utterance = Utterance(
        path=path,
        corpus=corpus.name,
        speaker=speaker if known else UNKNOWN_SPEAKER,
        emotion=emotion,
        sex=label.sex or (corpus.speakers or {}).get(speaker),
        statement=label.statement,
        part=label.part,
        language=corpus.language or corpus.languages.get(speaker),
        votes=label.votes,
        dimensions=label.dimensions,
        speaker_known=known,
        source=label.line,
    )
    return ParsedName(utterance, (label.part or "", label.name.casefold()))


def _settle(root: Path, fits: Mapping[Path, tuple[ParsedName, ...]], search: _Search, found: Recognized) -> None:
    """Adds one clip for each file to `found`, by the rules at the top of this file."""
    groups: dict[tuple[Path, frozenset[str]], list[Path]] = defaultdict(list)
    for path, parsed in fits.items():
        groups[path.parent, frozenset(p.corpus for p in parsed)].append(path)
    fitting: dict[Path, set[frozenset[str]]] = defaultdict(set)  # folder -> what the names in and below it fit
    for folder, corpora in groups:
        for above in _up_to(root, folder):
            fitting[above].add(corpora)
    by_rank: dict[tuple[str, tuple[str, ...]], list[Path]] = defaultdict(list)
    for (folder, corpora), paths in groups.items():
        sure = frozenset(name for name in corpora if search.is_sure(CORPORA[name], folder))
        if not sure:
            first = min(corpora)
            why = f"the name fits {first}, but no folder is named so; set data.corpora=[{first}] if it is"
            found.hints |= dict.fromkeys(paths, why)
            continue
        name, alike = _choose(root, folder, corpora, sure, fitting, paths)
        if alike:
            by_rank[name, alike].extend(paths)
        for path in paths:
            found.clips[path] = next(p for p in fits[path] if p.corpus == name)
    for (name, alike), paths in by_rank.items():
        found.notes.append(
            f"{len(paths)} names, such as {paths[0]}, fit {' and '.join((name, *alike))} equally well and are taken "
            f"for {name}: if that is wrong, set data.corpora=[{alike[0]}]"
        )


def _up_to(root: Path, folder: Path) -> list[Path]:
    """A folder and those above it, up to the root."""
    return [folder, *(above for above in folder.parents if above == root or root in above.parents)]


def _choose(
    root: Path,
    folder: Path,
    corpora: frozenset[str],
    sure: frozenset[str],
    fitting: Mapping[Path, set[frozenset[str]]],
    paths: Sequence[Path],
) -> tuple[str, tuple[str, ...]]:
    """The corpus of names that fit several; and those that they fit equally well, if only the rank decided.

    Args:
        corpora: those that the names fit.
        sure: those of them that need no folder named after them, or have one.
    """
    left = corpora
    for above in _up_to(root, folder) if len(left) > 1 else ():
        common = corpora.intersection(*(other for other in fitting[above] if other & corpora))
        if not common & sure:
            if common:  # all names fit a corpus that no folder is named after, and only some fit another
                raise DataError(_which(folder, paths, corpora, f"all related names in {above} fit {min(common)} only"))
            if len(sure) == 1:  # stray names
                left = sure
                break
            raise DataError(_which(folder, paths, sure, f"other names in {above} fit only one of them or the other"))
        left = _named_by(above, common & sure) or common
        if len(left) == 1:
            break
    for above in root.parents if len(left) > 1 else ():
        left = _named_by(above, left & sure) or left
    if len(left & sure) > 1:
        left = frozenset(name for name in left if all(_is_exact(CORPORA[name], path) for path in paths)) or left
    ranks = sorted((name not in sure, CORPORA[name].rank, name) for name in left)
    if len(ranks) > 1 and ranks[0][:2] == ranks[1][:2]:
        raise DataError(_which(folder, paths, left, "nothing says which"))
    return ranks[0][2], tuple(name for _, _, name in ranks[1:])


def _named_by(folder: Path, corpora: frozenset[str]) -> frozenset[str]:
    """Those of the corpora that a folder is named after, if it is only one."""
    named = frozenset(name for name in corpora if CORPORA[name].is_named_by(folder.name))
    return named if len(named) == 1 else frozenset()


def _is_exact(corpus: Corpus, path: Path) -> bool:
    """Whether capitals are as the corpus writes them."""
    texts = ["/".join([*path.parts[-1 - folders : -1], path.stem]) for folders, _ in corpus.places]
    return any(pattern.fullmatch(text) for pattern in corpus.exact for text in texts)


def _which(folder: Path, paths: Sequence[Path], corpora: Iterable[str], why: str) -> str:
    first, *others = sorted(corpora)
    return (
        f"{folder}: {len(paths)} names, such as {paths[0].name!r}, fit {' and '.join((first, *others))}, and {why}; "
        f"keep each corpus in a folder of its own, named after it, or say which it is: "
        f"data.corpora={{{folder}: {first}}}"
    )


def _add_votes(files: Sequence[Path], found: Recognized) -> None:
    clips = {path: parsed for path, parsed in found.clips.items() if parsed.corpus == "cremad"}
    folders = {above for path in clips for above in (path.parent, path.parent.parent)}
    beside = [
        folder / inner / name for folder in folders for inner in (".", "processedResults") for name in VOTE_TABLES
    ]
    votes = cremad_votes([*files, *filter(is_file, beside)]) if clips else {}
    for path, parsed in clips.items() if votes else ():
        if of_clip := votes.get(path.stem.upper()):
            found.clips[path] = replace(parsed, utterance=replace(parsed.utterance, votes=of_clip))
