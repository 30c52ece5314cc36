"""File names -> utterances: the grammars of five corpora, and a scan that accounts for every audio file it meets."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serx.data.manifest import SkippedFile, read_manifest
from serx.data.utterance import Sex, Utterance
from serx.errors import DataError

# The endings of what libsndfile reads; header-less RAW is left out, its rate being anyone's guess. Then those of
# recordings that it does not read: a scan names them rather than passing them over.
_LOSSLESS = """aif aifc aiff au avr caf flac htk iff ircam mat mat4 mat5 mpc mpc2k nist paf pvf rf64 sd2 sds sf snd sph
    svx voc w64 wav wave wavex wve xi"""
_LOSSY, _UNREADABLE = "mp1 mp2 mp3 oga ogg opus", "aac amr m4a wma"
LOSSLESS, LOSSY, UNREADABLE = (frozenset(map(".{}".format, s.split())) for s in (_LOSSLESS, _LOSSY, _UNREADABLE))


@dataclass(frozen=True)
class Grammar:
    """How one corpus names its files.

    Attributes:
        corpus: serx's name for it.
        example: a file name as published.
        pattern: of a stem, or of `folder/stem` where the folder names the speaker. Named groups: `speaker`,
            `emotion`, and any of `modality`, `style`, `intensity`, `statement`, `take`.
        emotions, intensities: code in the name -> word.
        speakers: every speaker there is -> sex.
        spellings: a code as some releases write it -> the usual code.
    """

    corpus: str
    example: str
    pattern: re.Pattern[str]
    emotions: Mapping[str, str]
    speakers: Mapping[str, Sex]
    intensities: Mapping[str, str] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.ASCII)


def _table(pairs: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\w+)", pairs))


def _sexes(speakers: str, women: str) -> dict[str, Sex]:
    return {**dict.fromkeys(speakers.split(), "male"), **dict.fromkeys(women.split(), "female")}


GRAMMARS = (
    # Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391: modality 01 film with sound, 02 film alone, 03 sound.
    Grammar(
        "ravdess",
        "03-01-05-02-01-02-12.wav",
        _pattern(
            r"(?P<modality>0[1-3])-(?P<style>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])"
            r"-(?P<statement>0[12])-(?P<take>[0-9]{2})-(?P<speaker>[0-9]{2})"
        ),
        _table("01=neutral 02=calm 03=happy 04=sad 05=angry 06=fearful 07=disgust 08=surprised"),
        _sexes("01 03 05 07 09 11 13 15 17 19 21 23", "02 04 06 08 10 12 14 16 18 20 22 24"),
        intensities=_table("01=normal 02=strong"),
    ),
    # Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244; sexes: its VideoDemographics.csv; 1040_ITH_SAD_X has one X.
    Grammar(
        "cremad",
        "1001_DFA_ANG_XX.wav",
        _pattern(
            r"(?P<speaker>10[0-9]{2})_(?P<statement>DFA|IEO|IOM|ITH|ITS|IWL|IWW|MTI|TAI|TIE|TSI|WSI)"
            r"_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<intensity>LO|MD|HI|XX?)"
        ),
        _table("ang=angry dis=disgust fea=fearful hap=happy neu=neutral sad=sad"),
        _sexes(
            " ".join(map(str, range(1001, 1092))),
            "1002 1003 1004 1006 1007 1008 1009 1010 1012 1013 1018 1020 1021 1024 1025 1028 1029 1030 1037 1043 1046 "
            "1047 1049 1052 1053 1054 1055 1056 1058 1060 1061 1063 1072 1073 1074 1075 1076 1078 1079 1082 1084 1089 "
            "1091",
        ),
        intensities=_table("lo=low md=medium hi=high"),
        spellings={"x": "xx"},
    ),
    # Pichora-Fuller & Dupuis 2020, doi:10.5683/SP2/E8H2MF; OA_bite_neutral is published without its F.
    Grammar(
        "tess",
        "OAF_back_angry.wav",
        _pattern(
            r"(?P<speaker>OAF?|YAF)_(?P<statement>[a-z]+)"
            r"_(?P<emotion>angry|disgust|fear|happy|neutral|ps|(?:pleasant_)?surprised?|sad)"
        ),
        _table("angry=angry disgust=disgust fear=fearful happy=happy neutral=neutral ps=surprised sad=sad"),
        _sexes("", "OAF YAF"),
        spellings=_table("oa=oaf surprise=ps surprised=ps pleasant_surprise=ps pleasant_surprised=ps"),
    ),
    # Haq & Jackson 2009, kahlan.eps.surrey.ac.uk/savee: DC/a01.wav as published, ALL/DC_a01.wav in Kaggle's copy.
    Grammar(
        "savee",
        "DC_a01.wav or DC/a01.wav",
        _pattern(r"(?P<speaker>DC|JE|JK|KL)[_/](?P<statement>(?P<emotion>sa|su|[adfhn])[0-9]{2})"),
        _table("a=angry d=disgust f=fearful h=happy n=neutral sa=sad su=surprised"),
        _sexes("DC JE JK KL", ""),
    ),
    # Burkhardt et al. 2005, doi:10.21437/Interspeech.2005-446: the letters are the emotions' German initials.
    Grammar(
        "emodb",
        "03a01Fa.wav",
        _pattern(r"(?P<speaker>[01][0-9])(?P<statement>[ab][0-9]{2})(?P<emotion>[WLEAFTN])(?P<take>[a-z])"),
        _table("w=angry l=boredom e=disgust a=fearful f=happy t=sad n=neutral"),
        _sexes("03 10 11 12 15", "08 09 13 14 16"),
    ),
)


@dataclass(frozen=True)
class Scan:
    """What a scan found: the clips, sorted by corpus, speaker and canonical name, and every audio file left out."""

    utterances: tuple[Utterance, ...]
    skipped: tuple[SkippedFile, ...]


@dataclass(frozen=True)
class _Found:
    """A clip with what tells it from others (`codes`) and what decides between two copies of it (`place`)."""

    utterance: Utterance
    codes: tuple[str, ...]
    modality: str
    place: tuple[int, int, str]  # root's number, folders below the root, path from the root


def _parse(path: Path, place: tuple[int, int, str]) -> _Found | None:
    """What the file's name (and its folder's) says of corpus, speaker and emotion; None when no grammar fits."""
    for grammar in GRAMMARS:
        match = grammar.pattern.fullmatch(path.stem) or grammar.pattern.fullmatch(f"{path.parent.name}/{path.stem}")
        if match is None:
            continue
        code = {name: grammar.spellings.get(text.lower(), text.lower()) for name, text in match.groupdict().items()}
        speaker = code["speaker"].upper()
        if speaker not in grammar.speakers:
            continue
        modality = code.pop("modality", "")
        utterance = Utterance(
            path=path,
            corpus=grammar.corpus,
            speaker=speaker,
            emotion=grammar.emotions[code["emotion"]],
            sex=grammar.speakers[speaker],
            style="song" if code.get("style") == "02" else "speech",
            intensity=grammar.intensities.get(code.get("intensity", "")),
            statement=code["statement"],
        )
        return _Found(utterance, tuple(code.values()), modality, place)
    return None


def scan(
    root: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], styles: Collection[str] = ("speech",)
) -> Scan:
    """Find the clips of one corpus, of a folder of corpora, of a CSV manifest, or of a list of those.

    Names are read, files are not opened. Of several copies of one utterance (same corpus, same canonical name) one is
    kept, decided in this order: sound published as such before the sound of a film (RAVDESS 03 before 01); lossless
    before lossy; the copy whose folder holds more clips, so that a few stray copies never replace part of a corpus;
    the earlier root; fewer folders deep; the first path alphabetically. A file that a manifest lists is what the
    manifest says, whatever its name.

    Args:
        root: corpus folder, folder of corpora, path ending in `.csv`, or a list of those.
        styles: which of `speech` and `song` to keep.

    Raises:
        DataError: a root that is missing or holds no clip that serx knows, a manifest with bad rows, two manifests
            that contradict each other, or no clip of the styles asked for.
    """
    wanted = {styles} if isinstance(styles, str) else set(styles)
    if not wanted or not wanted <= {"speech", "song"}:
        raise DataError(f"data.styles {sorted(wanted)}: choose from speech and song")
    roots = [root] if isinstance(root, str | os.PathLike) else list(root)
    if not roots:
        raise DataError("no data was named: give a corpus folder, a folder of corpora or a CSV manifest")

    listed: dict[Path, _Found] = {}
    named: dict[Path, _Found] = {}
    aside: dict[Path, SkippedFile] = {}  # these three by path: a file met twice, in overlapping roots, counts once
    for number, item in enumerate(roots):
        path = Path(os.path.abspath(os.path.expanduser(item)))
        if path.is_dir():
            _scan_folder(path, number, named, aside)
        elif path.is_file() and path.suffix.lower() == ".csv":
            _scan_manifest(path, number, listed, aside)
        else:
            raise DataError(_no_root(path))

    clips = [*_best_copies([clip for path, clip in named.items() if path not in listed], aside), *listed.values()]
    for clip in clips:
        if clip.utterance.style not in wanted:
            aside[clip.utterance.path] = SkippedFile(
                clip.utterance.path, "style", f"{clip.utterance.style} not asked for"
            )
    clips.sort(key=lambda clip: (clip.utterance.corpus, clip.utterance.speaker, clip.codes))
    chosen = tuple(clip.utterance for clip in clips if clip.utterance.style in wanted)
    if not chosen:
        style = clips[0].utterance.style
        raise DataError(
            f"all {len(clips)} clips are {style}: add {style} to data.styles, such as data.styles=[{style}]"
        )
    unused = (aside[path] for path in sorted(aside) if path not in listed or aside[path].reason == "style")
    return Scan(chosen, tuple(unused))


def _scan_folder(root: Path, number: int, named: dict[Path, _Found], aside: dict[Path, SkippedFile]) -> None:
    """Add the clips below `root` to `named`, and the audio that is no clip to `aside`."""
    clips, others = 0, []
    for path in _audio_files(root):
        local = path.relative_to(root)
        found = _parse(path, (number, len(local.parts), local.as_posix()))
        if path.name.startswith("."):
            others.append(SkippedFile(path, "hidden", "a macOS side file or another hidden file, not a clip"))
        elif found is None:
            others.append(SkippedFile(path, "unknown_name", "fits the names of no corpus that serx knows"))
        elif path.suffix.lower() in UNREADABLE:
            others.append(SkippedFile(path, "format", f"{path.suffix} cannot be decoded; convert it to WAV or FLAC"))
        elif found.modality == "02":
            others.append(SkippedFile(path, "video_only", "modality 02 is film without sound"))
        elif not path.exists():
            others.append(SkippedFile(path, "missing", "a link to a file that is not there"))
        else:
            named.setdefault(path, found)
            clips += 1
    if not clips:
        raise DataError(_no_clip(root, others))
    aside.update((file.path, file) for file in others)


def _audio_files(root: Path) -> Iterator[Path]:
    """The audio below `root`, each folder's in order; links are followed, and each folder is entered once."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}; mend its permissions") from None

    entered = set()
    for folder, below, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in entered else sorted(b for b in below if b != "__MACOSX" and not b.startswith("."))
        if real not in entered:
            paths = (Path(folder, name) for name in sorted(names))
            yield from (path for path in paths if path.suffix.lower() in LOSSLESS | LOSSY | UNREADABLE)
        entered.add(real)


def _scan_manifest(path: Path, number: int, listed: dict[Path, _Found], aside: dict[Path, SkippedFile]) -> None:
    manifest = read_manifest(path)
    for clip in manifest.utterances:
        local = Path(os.path.relpath(clip.path, path.parent)).as_posix()
        found = listed.setdefault(clip.path, _Found(clip, (local,), "", (number, 0, local)))
        if found.utterance != clip:
            raise DataError(f"{path}: {local!r} is described otherwise in another manifest; list it in one of the two")
    aside.update((file.path, file) for file in manifest.skipped)


def _best_copies(clips: Sequence[_Found], aside: dict[Path, SkippedFile]) -> list[_Found]:
    """One clip per utterance, by the order of preference that `scan` documents; its copies go to `aside`."""
    crowd = Counter(clip.utterance.path.parent for clip in clips)

    def preference(clip: _Found) -> tuple[object, ...]:
        path = clip.utterance.path
        return clip.modality == "01", path.suffix.lower() in LOSSY, -crowd[path.parent], clip.place

    best: dict[tuple[str, ...], _Found] = {}
    for clip in sorted(clips, key=preference):
        kept = best.setdefault((clip.utterance.corpus, *clip.codes), clip)
        if kept is not clip:
            aside[clip.utterance.path] = SkippedFile(
                clip.utterance.path, "duplicate", f"a copy of {kept.utterance.path}"
            )
    return list(best.values())


def _no_clip(root: Path, others: Sequence[SkippedFile]) -> str:
    example = f", such as {others[-1].path.name!r}: {others[-1].detail}" if others else ""
    names = ", ".join(f"{grammar.corpus} {grammar.example}" for grammar in GRAMMARS)
    return (
        f"{root}: no clip among {len(others)} audio files{example}. Looked for {names}. Name the folder that holds a "
        "corpus, or list your own recordings in a CSV (columns path, emotion, speaker) and name that"
    )


def _no_root(path: Path) -> str:
    if path.exists():
        return f"{path}: neither a folder nor a .csv; unpack an archive first, and name the folder"
    parent = next(above for above in path.parents if above.is_dir())
    missing = path.relative_to(parent).parts[0]
    near = difflib.get_close_matches(missing, sorted(os.listdir(parent)), n=1)
    hint = f"did you mean {parent / near[0]}?" if near else "check the spelling"
    return f"{path}: no such folder or manifest ({parent} has no {missing!r}); {hint}"
