"""File names of the published corpora and of registered ones, and scans that account for every audio file."""

import importlib
import os
import random
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from serx.data.audio.paths import LOSSLESS, LOSSY
from serx.data.corpora import CORPORA, canonical_corpus, register_corpus
from serx.data.corpora.file_names import parse_names
from serx.data.labels import EMOTIONS
from serx.data.scanning.scanner import Scan, scan
from serx.data.utterance import Utterance
from serx.errors import ConfigError, DataError
from tests.data import layouts
from tests.data.layouts import inside, touch, utterance_of

FILMED = "01-01-05-01-02-01-07.wav"
SOUND = "03-01-05-01-02-01-07.wav"
SINGERS = [actor for actor in range(1, 25) if actor != 18]  # Livingstone & Russo 2018: actor 18 does not sing
FIVE = ("ravdess", "cremad", "tess", "savee", "emodb")  # tests/data/corpora/ checks the others
EXAMPLES = [CORPORA[name].example.split(" or ")[0] for name in FIVE]
SIX = ("neutral", "happy", "sad", "angry", "fearful", "disgust")


def reasons(found: Scan) -> Counter[str]:
    return Counter(file.reason for file in found.skipped)


def kept(found: Scan, root: Path) -> list[str]:
    return [clip.path.relative_to(root).as_posix() for clip in found.utterances]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (SOUND, ("ravdess", "07", "angry", "male", "speech", "normal", "02")),
        ("03-02-06-02-01-01-24.FLAC", ("ravdess", "24", "fearful", "female", "song", "strong", "01")),
        ("01-01-08-01-01-02-02.wav", ("ravdess", "02", "surprised", "female", "speech", "normal", "01")),
        ("1001_DFA_ANG_XX.wav", ("cremad", "1001", "angry", "male", "speech", None, "dfa")),
        ("1091_IEO_FEA_HI.wav", ("cremad", "1091", "fearful", "female", "speech", "high", "ieo")),
        ("1040_ITH_SAD_X.wav", ("cremad", "1040", "sad", "male", "speech", None, "ith")),
        ("OAF_Fear/OAF_back_fear.wav", ("tess", "OAF", "fearful", "female", "speech", None, "back")),
        ("OAF_neutral/OA_bite_neutral.wav", ("tess", "OAF", "neutral", "female", "speech", None, "bite")),
        ("YAF_home_pleasant_surprised.wav", ("tess", "YAF", "surprised", "female", "speech", None, "home")),
        ("ALL/DC_sa03.wav", ("savee", "DC", "sad", "male", "speech", None, "sa03")),
        ("AudioData/KL/su15.wav", ("savee", "KL", "surprised", "male", "speech", None, "su15")),
        ("03a01Fa.wav", ("emodb", "03", "happy", "male", "speech", None, "a01")),
        ("16b10Lb.wav", ("emodb", "16", "boredom", "female", "speech", None, "b10")),
    ],
)
def test_a_published_name_gives_corpus_speaker_emotion_and_statement(
    name: str, expected: tuple[str | None, ...]
) -> None:
    clip = utterance_of(name)
    assert clip
    language = "de" if clip.corpus == "emodb" else "en"
    assert clip == Utterance(clip.path, *expected, language=language)  # type: ignore[arg-type]


RESEMBLING = (
    "03-01-05-01-02-01-25 03-01-05-01-02-01-00 03-01-09-01-02-01-07 04-01-05-01-02-01-07 3-1-5-1-2-1-7 "
    "1092_DFA_ANG_XX 1001_ABC_ANG_XX 1001_DFA_ANG OBF_back_angry OAF_back_joy DC_x01 a01 AD/a01 DC/AudioData/a01 "
    "07a01Fa 03c01Fa 03a01Fa.wav "
    "03-01-05-01-02-01-0\u0667 OAF_back_\u017fad"  # a digit and a letter s for Unicode patterns only
)


@pytest.mark.parametrize("stem", [*RESEMBLING.split(), SOUND[:-4] + " (1)", SOUND[:-4] + "\n", ""])
def test_a_name_that_only_resembles_a_published_one_is_unknown(stem: str) -> None:
    assert utterance_of(f"{stem}.wav") is None


@settings(deadline=None)
@given(st.sampled_from(EXAMPLES), st.data())
def test_a_mutated_name_is_unknown_or_has_an_existing_speaker_and_emotion(name: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        position, cut = data.draw(st.integers(0, len(name))), data.draw(st.integers(0, 1))
        name = name[:position] + data.draw(st.sampled_from("0123456789aADWx_-/. ")) + name[position + cut :]
    clip = utterance_of(name.replace("..", ".").strip("/"))
    if clip is not None:
        speakers = CORPORA[clip.corpus].speakers or {}
        assert clip.emotion in EMOTIONS
        assert speakers[clip.speaker] == clip.sex


def test_letter_case_is_ignored() -> None:
    for name in EXAMPLES:
        lower, upper = utterance_of(name.lower()), utterance_of(name.upper())
        assert lower and upper
        assert replace(lower, path=upper.path) == upper


@pytest.mark.parametrize(
    ("names", "speakers", "counts"),
    [
        (layouts.ravdess(), 24, {**dict.fromkeys(EMOTIONS[:8], 192), "neutral": 96}),
        (layouts.ravdess(SINGERS, song=True), 23, {**dict.fromkeys(EMOTIONS[:6], 184), "neutral": 92}),
        (layouts.cremad(), 91, {**dict.fromkeys(SIX, 91 * 14), "neutral": 91 * 12}),
        (layouts.tess(), 2, dict.fromkeys([*SIX, "surprised"], 400)),
        (layouts.savee(flat=True), 4, {**dict.fromkeys([*SIX, "surprised"], 60), "neutral": 120}),
        (layouts.savee(flat=False), 4, {**dict.fromkeys([*SIX, "surprised"], 60), "neutral": 120}),
        (layouts.emodb(), 10, dict.fromkeys([*SIX, "boredom"], 100)),
    ],
    ids=["ravdess", "ravdess-song", "cremad", "tess", "savee-flat", "savee-folders", "emodb"],
)
def test_all_names_of_a_corpus_are_known(
    names: list[str], speakers: int, counts: dict[str, int], tmp_path: Path
) -> None:
    clips = scan(touch(tmp_path, names), styles=("speech", "song")).utterances
    assert Counter(clip.emotion for clip in clips) == counts
    assert len({clip.speaker_id for clip in clips}) == speakers
    assert sum(counts.values()) == len(names)


def test_the_sexes_are_those_of_the_corpora_s_own_tables() -> None:
    sexes = {name: CORPORA[name].speakers or {} for name in FIVE}
    men = {corpus: {name for name, sex in speakers.items() if sex == "male"} for corpus, speakers in sexes.items()}
    assert men["ravdess"] == {f"{actor:02d}" for actor in range(1, 25) if actor % 2}
    assert men["emodb"] == {"03", "10", "11", "12", "15"}
    assert (men["savee"], men["tess"]) == ({"DC", "JE", "JK", "KL"}, set())
    # The column Sex of CREMA-D's VideoDemographics.csv, from actor 1001 to 1091.
    column = "MFFFMFFFFFMFFMMMMFMFFMMFFMMFFFMMMMMMFMMMMMFMMFFMFMMFFFFFMFMFFMFMMMMMMMMFFFFFMFFMMFMFMMMMFMF"
    assert [sexes["cremad"][str(1001 + n)][0].upper() for n in range(91)] == list(column)
    assert (column.count("M"), column.count("F")) == (48, 43)


def test_song_is_used_only_if_requested_and_has_the_same_speakers(tmp_path: Path) -> None:
    speech, song = layouts.ravdess(actors=(1, 2)), layouts.ravdess(actors=(1, 2), song=True)
    root = touch(tmp_path, inside("speech", speech) + inside("song", song))
    assert len(scan(root).utterances) == 120
    assert reasons(scan(root)) == {"style": 88}
    assert len(scan(root, styles="song").utterances) == 88
    both = scan(root, styles=("speech", "song"))
    assert (len(both.utterances), len({clip.speaker_id for clip in both.utterances})) == (208, 2)
    with pytest.raises(DataError, match=r"data\.styles \['songs'\]: choose from speech and song"):
        scan(root, styles=("songs",))
    with pytest.raises(
        DataError, match=r"all 88 clips are song: add song to data\.styles, such as data\.styles=\[song\]"
    ):
        scan(root / "song")


def test_both_layouts_of_savee_give_the_same_clips_in_the_same_order(tmp_path: Path) -> None:
    flat = scan(touch(tmp_path / "flat", layouts.savee(flat=True)[::7])).utterances
    nested = scan(touch(tmp_path / "nested", layouts.savee(flat=False)[::7])).utterances
    assert [(c.speaker_id, c.statement) for c in flat] == [(c.speaker_id, c.statement) for c in nested]
    alone = scan(tmp_path / "nested" / "AudioData" / "JK").utterances
    assert alone == tuple(clip for clip in nested if clip.speaker == "JK")


def test_a_duplicate_folder_counts_once_and_the_copies_are_listed(tmp_path: Path) -> None:
    outer, inner = layouts.tess(words=5), inside("TESS Toronto emotional speech set data", layouts.tess(words=5))
    found = scan(touch(tmp_path, outer + inner))
    assert sorted(kept(found, tmp_path)) == sorted(outer)
    assert reasons(found) == {"duplicate": 70}
    copy = found.skipped[0]
    assert copy.detail == f"a copy of {tmp_path / copy.path.parent.name / copy.path.name}"


def test_a_misspelled_published_name_and_its_correction_are_the_same_utterance(tmp_path: Path) -> None:
    names = ["x/1040_ITH_SAD_X.wav", "y/1040_ITH_SAD_XX.wav", "x/OA_bite_neutral.wav", "y/OAF_bite_neutral.wav"]
    assert len(scan(touch(tmp_path, names)).utterances) == 2


def test_ravdess_sound_is_preferred_to_the_film_s_sound_and_silent_film_is_skipped(tmp_path: Path) -> None:
    silent, alone = SOUND.replace("03-", "02-", 1), FILMED.replace("-07.", "-08.")
    found = scan(touch(tmp_path, [f"a/{FILMED}", f"a/{alone}", f"a/{silent}", f"b/c/{SOUND}"]))
    assert kept(found, tmp_path) == [f"b/c/{SOUND}", f"a/{alone}"]
    assert {file.path.name: file.reason for file in found.skipped} == {FILMED: "duplicate", silent: "video_only"}


def test_lossless_is_preferred_to_lossy(tmp_path: Path) -> None:
    names = ["AudioMP3/1001_DFA_ANG_XX.mp3", "AudioMP3/1001_DFA_HAP_XX.mp3", "AudioWAV/1001_DFA_ANG_XX.wav"]
    found = scan(touch(tmp_path, names))
    assert [clip.path.name for clip in found.utterances] == ["1001_DFA_ANG_XX.wav", "1001_DFA_HAP_XX.mp3"]


@pytest.mark.parametrize("stray", ["aaa", "zzz"])
def test_a_few_stray_copies_never_replace_clips_of_a_full_folder(tmp_path: Path, stray: str) -> None:
    full = inside("m/n", layouts.ravdess(actors=(7,)))
    touch(tmp_path, [*full, f"{stray}/{SOUND}"])
    for root in (tmp_path, [tmp_path / stray, tmp_path / "m"], [tmp_path / "m", tmp_path / stray]):
        assert sorted(kept(scan(root), tmp_path)) == sorted(full)
    touch(tmp_path, [f"tie/{SOUND}"])
    assert kept(scan([tmp_path / "tie", tmp_path / stray]), tmp_path) == [f"tie/{SOUND}"]


def test_the_order_of_the_clips_depends_on_their_names_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = layouts.ravdess(actors=(10, 2)) + layouts.savee(flat=True)[::5] + layouts.emodb()[::5] + layouts.tess(4)
    first = touch(tmp_path / "one", names)
    order = kept(scan(first), first)
    published = [(clip.speaker_id, clip.path.name.lower()) for clip in scan(first).utterances if clip.corpus != "tess"]
    assert published == sorted(published)
    second = touch(tmp_path / "a" / "much" / "deeper" / "folder", names[::-1])
    walk = os.walk

    def another_file_system(*args, **kwargs):
        for folder, below, files in walk(*args, **kwargs):
            below.reverse()
            random.Random(1).shuffle(files)
            yield folder, below, files

    monkeypatch.setattr(os, "walk", another_file_system)
    assert kept(scan(second), second) == order


def test_every_audio_file_is_either_used_or_skipped(tmp_path: Path) -> None:
    copies = [SOUND.replace(".wav", ".m4a"), SOUND.replace(".wav", ".mp4"), "b/" + SOUND]
    skipped = ["song.wav", "notes.flac", ".hidden.wav", f"._{SOUND}", SOUND.replace(".wav", ".xyz"), *copies]
    no_audio = ["readme.txt", "labels.csv", f"__MACOSX/._{SOUND}", f".trash/{SOUND}"]
    touch(tmp_path, [SOUND, *skipped, *no_audio])
    found = scan(tmp_path)
    assert len(found.utterances) == 1
    assert {file.path.relative_to(tmp_path).as_posix() for file in found.skipped} == set(skipped)
    assert reasons(found) == {"unknown_name": 2, "hidden": 2, "format": 1, "duplicate": 3}


def test_links_are_followed_loops_end_and_dead_links_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = touch(tmp_path / "elsewhere", layouts.ravdess(actors=(1,)))
    root = tmp_path / "root"
    root.mkdir()
    (root / "ravdess").symlink_to(corpus)
    for loop in ("one", "two"):  # without a check, two loops make 2^40 paths
        (root / loop).symlink_to(root)
    (root / SOUND).symlink_to(tmp_path / "not fetched")
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda *a, **k: (step for step, _ in zip(walk(*a, **k), range(5), strict=True)))
    found = scan(root)
    assert len(found.utterances) == 60
    assert reasons(found) == {"missing": 1}


def test_several_corpora_are_found_in_one_folder_or_in_a_list(tmp_path: Path) -> None:
    touch(tmp_path / "r", layouts.ravdess(actors=(1,)))
    touch(tmp_path / "t", layouts.tess(words=2))
    below, listed = scan(tmp_path), scan([str(tmp_path / "t"), tmp_path / "r"])
    assert Counter(clip.corpus for clip in below.utterances) == {"ravdess": 60, "tess": 28}
    assert listed.utterances == below.utterances
    overlapping = scan([tmp_path, tmp_path / "t", tmp_path])
    assert (overlapping.utterances, overlapping.skipped) == (below.utterances, ())


@pytest.mark.parametrize(
    ("root", "line"),
    [
        ("corpura", r"corpura: no such folder or manifest .*; did you mean .*/corpora\?$"),
        ("nowhere/at/all", r"no such folder .*has no 'nowhere'\); check the spelling"),
        ("archive.zip", r"archive\.zip: neither a folder nor a table \(.*\); unpack"),
        (
            "empty",
            r"empty: no known clip among 0 audio files\. Known names: ravdess 03-01-.*CSV \(columns path, emotion",
        ),
        ("mine", r"mine: no known clip among 2 audio files, such as 'two\.wav': the name matches no corpus"),
        (["corpora", "mine"], r"mine: no known clip among 2"),
        ([], r"data\.root is empty"),
    ],
)
def test_a_root_without_clips_raises_one_line_with_advice(tmp_path: Path, root: str | list[str], line: str) -> None:
    touch(tmp_path, ["archive.zip", "mine/one.wav", "mine/two.wav", f"corpora/{SOUND}"])
    (tmp_path / "empty").mkdir()
    roots = tmp_path / root if isinstance(root, str) else [tmp_path / item for item in root]
    with pytest.raises(DataError, match=line) as caught:
        scan(roots)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_listed_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(root, onerror, **kwargs):
        onerror(PermissionError(13, "Permission denied", f"{root}/Actor_02"))
        return iter([(str(root), [], [SOUND])])

    monkeypatch.setattr(os, "walk", locked)
    with pytest.raises(DataError, match="Actor_02: cannot list this folder: Permission denied"):
        scan(tmp_path)


def test_every_format_that_soundfile_reads_has_an_ending_in_the_list() -> None:
    endings = {"." + name.lower() for name in soundfile.available_formats()} - {".raw"}
    assert endings <= LOSSLESS | LOSSY
    assert not LOSSLESS & LOSSY


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems do not allow such names")
def test_file_names_that_are_not_unicode_are_skipped(tmp_path: Path) -> None:
    assert reasons(scan(touch(tmp_path, [SOUND, os.fsdecode(b"\xff\xfe.wav")]))) == {"unknown_name": 1}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict:
    """The registry of corpora with the published ones only; a test's registrations end with it."""
    published = dict(CORPORA)
    CORPORA.clear()
    CORPORA.update({name: corpus for name, corpus in published.items() if corpus.rank != 1})
    yield CORPORA
    CORPORA.clear()
    CORPORA.update(published)


OFFICE = {
    "name": "office",
    "pattern": r"(?P<speaker>[a-z]{2})_(?P<emotion>[a-z]{3})(?:-(?P<intensity>lo|hi))?_(?P<take>[0-9]+)",
    "emotions": {"ANG": "Anger", "neu": "neutral", "brd": "bored to tears"},
    "speakers": {"ab": "female", "CD": None},
    "example": "AB_ang_1.wav",
    "intensities": {"hi": "high"},
    "spellings": {"neut": "neu"},
}


def test_files_of_a_registered_corpus_are_found(tmp_path: Path, registry: dict) -> None:
    register_corpus(**OFFICE)
    names = ["AB_ang-hi_1.wav", "CD_neu_1.flac", "cd_NEU_2.wav", "CD_neu_2.mp3", "AB_xyz_1.wav", "EF_ang_1.wav", SOUND]
    found = scan(touch(tmp_path, names))
    assert [(c.speaker_id, c.emotion, c.sex, c.intensity, c.statement) for c in found.utterances] == [
        ("office/AB", "angry", "female", "high", None),
        ("office/CD", "neutral", None, None, None),
        ("office/CD", "neutral", None, None, None),
        ("ravdess/07", "angry", "male", "normal", "02"),
    ]
    assert {file.path.name: file.reason for file in found.skipped} == {
        "CD_neu_2.mp3": "duplicate",
        "AB_xyz_1.wav": "unknown_name",
        "EF_ang_1.wav": "unknown_name",
    }
    assert canonical_corpus("Office") == "office"
    with pytest.raises(DataError, match=r"emodb 03a01Fa\.wav, office AB_ang_1\.wav"):
        scan(touch(tmp_path / "none", ["x.wav"]))


def test_a_corpus_without_a_table_of_speakers_has_those_in_its_names(tmp_path: Path, registry: dict) -> None:
    register_corpus(
        "lab2", r"(?P<speaker>s[0-9]+)/(?P<emotion>sad|happy)_(?P<take>[0-9])", {"sad": "sad", "happy": "joy"}
    )
    clips = scan(touch(tmp_path, ["s1/sad_1.wav", "S12/happy_3.wav"])).utterances
    assert [(c.speaker_id, c.sex, c.emotion) for c in clips] == [("lab2/S1", None, "sad"), ("lab2/S12", None, "joy")]


def test_a_registered_corpus_may_say_its_language_and_the_sex_in_its_names(tmp_path: Path, registry: dict) -> None:
    pattern = r"(?P<sex>[mf])(?P<speaker>[0-9]+)_(?P<emotion>sad|happy)"
    register_corpus("lab3", pattern, {"sad": "sad", "happy": "happy"}, language="Estonian")
    clips = scan(touch(tmp_path, ["m1_sad.wav", "f2_happy.wav"])).utterances
    assert {(c.speaker_id, c.sex, c.language) for c in clips} == {
        ("lab3/1", "male", "et"), ("lab3/2", "female", "et"),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="no language is called 'Estonain'; did you mean estonian"):
        register_corpus("lab4", pattern, {"sad": "sad", "happy": "happy"}, language="Estonain")


def test_a_published_name_stays_with_its_corpus_whatever_is_registered(registry: dict) -> None:
    register_corpus("greedy", r"(?P<speaker>.+)-(?P<emotion>[0-9]+)", {"07": "happy"})
    clip = utterance_of(SOUND)
    assert clip and clip.corpus == "ravdess"
    [other] = parse_names(Path("x-07.wav"))
    assert other.utterance.speaker_id == "greedy/X"


def test_a_module_of_the_user_registers_a_corpus_by_being_imported(
    tmp_path: Path, registry: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_corpora.py").write_text(
        "from serx.data import register_corpus\n"
        'pattern = r"(?P<speaker>[a-z]+)_(?P<emotion>sad|ok)_(?P<take>[0-9]+)"\n'
        'register_corpus("mine", pattern, {"sad": "sad", "ok": "calm"})\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("my_corpora")
    importlib.reload(module)  # the same declaration twice is allowed
    [clip] = scan(touch(tmp_path / "audio", ["ann_ok_1.wav"])).utterances
    assert (clip.speaker_id, clip.emotion) == ("mine/ANN", "calm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "My Lab"}, "write the name in lower-case letters"),
        ({"name": "ravdess"}, "already means another corpus"),
        ({"pattern": "("}, "is not a regular expression"),
        ({"pattern": "(?P<speaker>a)"}, r"lacks the named group \(\?P<emotion>"),
        ({"pattern": "(?P<speaker>a)(?P<emotion>b)(?P<mood>c)"}, "unknown group 'mood'; use emotion, intensity"),
        ({"emotions": {}}, "emotions is empty"),
        ({"speakers": {"AB": "f"}}, "speaker 'AB' has sex 'f'; write male, female or None"),
    ],
)
def test_a_wrong_declaration_raises_one_line(change: dict, message: str, registry: dict) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        register_corpus(**{**OFFICE, **change})
    assert "\n" not in str(caught.value)
    assert "office" not in registry


@pytest.mark.speech
def test_real_corpora_have_their_known_counts_together_and_alone(speech_root: Path) -> None:
    together = scan(speech_root)
    counts = {"ravdess": 1200, "tess": 1400, "emovo": 588, "nemo": 4481, "ased": 2473}
    present = {folder.name[:-3] for folder in speech_root.glob("*16k")}
    assert Counter(clip.corpus for clip in together.utterances) == {c: n for c, n in counts.items() if c in present}
    duplicates = [file.path for file in together.skipped if file.reason == "duplicate"]
    assert len(duplicates) == 8
    assert {path.relative_to(speech_root).parts[0] for path in duplicates} == {"ravdess-native"}
    for folder, clips, speakers in (("ravdess16k", 1200, 20), ("ravdess-native", 8, 6), ("tess16k", 1400, 2)):
        alone = scan(speech_root / folder)
        assert (len(alone.utterances), len({c.speaker_id for c in alone.utterances})) == (clips, speakers)
        assert not alone.skipped
