"""Corpora as people have them on disk: copies, conversions and old releases, beside the published layouts."""

from pathlib import Path

import pytest

from serx.data.scanning.scanner import Scan, scan
from serx.data.tables.table import TablesConfig
from serx.errors import DataError
from tests.data.corpora.trees import TREES, csv, names
from tests.data.layouts import touch

ESD = {"Neutral": "neutral", "Angry": "angry", "Happy": "happy", "Sad": "sad", "Surprise": "surprised"}
CHINESE = dict(zip(ESD, ("\u4e2d\u7acb", "\u751f\u6c14", "\u5feb\u4e50", "\u4f24\u5fc3", "\u60ca\u559c"), strict=True))


def facts(found: Scan, root: Path) -> dict[str, tuple[str, str, str | None]]:
    """File -> speaker, emotion, sex."""
    return {clip.path.relative_to(root).as_posix(): (clip.speaker, clip.emotion, clip.sex) for clip in found.utterances}


def skipped(found: Scan) -> dict[str, tuple[str, str]]:
    return {file.path.name: (file.reason, file.detail) for file in found.skipped}


@pytest.mark.parametrize("inner", ["", "train/", "evaluation/", "test/"])
@pytest.mark.parametrize("chinese", [False, True])
def test_folders_of_esd_may_have_english_or_chinese_names(tmp_path: Path, inner: str, chinese: bool) -> None:
    folders = CHINESE if chinese else {word: word for word in ESD}
    expected = {
        f"Emotion Speech Dataset/{person}/{folder}/{inner}{person}_{number:06d}.wav": (person, ESD[word], sex)
        for person, sex in (("0001", "female"), ("0005", "male"))
        for number, (word, folder) in enumerate(folders.items(), 1)
    }
    expected["Emotion Speech Dataset/0011/Happy/0011_000701.wav"] = ("0011", "happy", "male")
    found = scan(touch(tmp_path, expected))
    assert facts(found, tmp_path) == expected
    assert {(clip.speaker, clip.language) for clip in found.utterances} == {
        ("0001", "zh"), ("0005", "zh"), ("0011", "en"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("encoding", "words"), [("utf-8", ESD), ("gb18030", CHINESE), ("utf-16", CHINESE), ("utf-8-sig", CHINESE)]
)
@pytest.mark.parametrize("folder", ["", "my choice/"])
def test_where_no_folder_of_esd_tells_the_emotion_the_transcript_does(tmp_path, encoding, words, folder) -> None:
    labels = words if words is CHINESE else {word: word for word in ESD}
    expected, lines = {}, []
    for number, word in enumerate(ESD, 1):
        expected[f"ESD/0002/{folder}0002_{number:06d}.wav"] = ("0002", ESD[word], "female")
        lines.append(f"0002_{number:06d}\tsome words said\t{labels[word]}")
    touch(tmp_path, expected)
    lines += ["0002_000900\tanother sentence\tHappy", "", "0002_000901\tno label"]
    (tmp_path / "ESD/0002/0002.txt").write_text("\n".join(lines), encoding=encoding)
    found = scan(tmp_path)
    assert facts(found, tmp_path) == expected and not found.skipped
    assert found.utterances[0].source == "0002.txt:1"


def test_a_folder_of_esd_counts_more_than_its_transcript(tmp_path: Path) -> None:
    touch(tmp_path, ["0011/Angry/0011_000351.wav"])
    (tmp_path / "0011/0011.txt").write_text("0011_000351\tsome words\tSad\n")
    assert facts(scan(tmp_path), tmp_path) == {"0011/Angry/0011_000351.wav": ("0011", "angry", "male")}


MEAD_ANGLES = "front down top left_30 left_60 right_30 right_60"


def test_an_utterance_of_mead_counts_once_and_its_sound_before_its_films(tmp_path: Path) -> None:
    sound = names("{0}/audio/{1}/level_{2}/00{3}.m4a", "M003 W009", "angry happy", "1 2", "1 2")
    films = names("{0}/video/{4}/{1}/level_{2}/00{3}.mp4", "M003 W009", "angry happy", "1 2", "1 2", MEAD_ANGLES)
    found = scan(touch(tmp_path, [*sound, *films]))
    assert facts(found, tmp_path) == {
        name: (name[:4], name.split("/")[2], {"M": "male", "W": "female"}[name[0]]) for name in sound
    }
    assert [file.reason for file in found.skipped] == ["duplicate"] * len(films)
    assert found.skipped[0].detail == f"another recording of the utterance in {tmp_path / sound[0]}"


@pytest.mark.parametrize(
    ("form", "kept"),
    [
        ("{0}/video/{1}/sad/level_3/001.mp4", "M003/video/front/sad/level_3/001.mp4 "
         "W009/video/top/sad/level_3/001.mp4"),
        ("{0}_{1}_sad_level_3_001.mp4", "M003_front_sad_level_3_001.mp4 W009_top_sad_level_3_001.mp4"),
    ],
)  # fmt: skip
def test_of_films_from_several_angles_one_counts(tmp_path: Path, form: str, kept: str) -> None:
    angles = {"M003": "left_60 top front right_30", "W009": "right_60 top left_30"}
    found = scan(touch(tmp_path, [name for who, seen in angles.items() for name in names(form, [who], seen)]))
    assert list(facts(found, tmp_path)) == kept.split()
    assert len(found.skipped) == 5


def test_films_of_mead_without_angles_are_clips(tmp_path: Path) -> None:
    found = scan(touch(tmp_path, ["W009/video/fear/level_1/012.mp4"]))
    assert facts(found, tmp_path) == {"W009/video/fear/level_1/012.mp4": ("W009", "fearful", "female")}


KAGGLE = "session,method,gender,emotion,n_annotators,agreement,path"
TURNS = {
    "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav": ("01F", "neutral", "female"),
    "Session1/sentences/wav/Ses01M_script01_1/Ses01M_script01_1_F001.wav": ("01F", "frustrated", "female"),
    "Session5/sentences/wav/Ses05F_impro01/Ses05F_impro01_M001.wav": ("05M", "no_agreement", "male"),
}


def kaggle_table(folder: Path) -> Path:
    codes = {"neutral": "neu", "frustrated": "fru", "no_agreement": "xxx"}
    rows = [f"{path[7]},impro,{sex[0].upper()},{codes[word]},3,2,{path}" for path, (_, word, sex) in TURNS.items()]
    (folder / "iemocap_full_dataset.csv").write_text(csv(KAGGLE, *rows))
    return folder / "iemocap_full_dataset.csv"


@pytest.mark.parametrize("inner", ["", "IEMOCAP_full_release/"])
@pytest.mark.parametrize("by_table", [False, True])
def test_the_usual_table_of_iemocap_gives_speakers_emotions_and_sexes(tmp_path, inner: str, by_table: bool) -> None:
    touch(tmp_path, [inner + name for name in TURNS])
    table = kaggle_table(tmp_path)
    found = scan(table if by_table else tmp_path)
    assert facts(found, tmp_path) == {inner + name: turn for name, turn in TURNS.items()}
    assert {clip.corpus for clip in found.utterances} == {"iemocap"} and not found.skipped


def test_the_table_of_iemocap_may_lie_apart_from_the_recordings(tmp_path: Path) -> None:
    touch(tmp_path / "audio", TURNS)
    touch(tmp_path / "tables", [])
    table = kaggle_table(tmp_path / "tables")
    found = scan(table, tables=TablesConfig(audio_root=str(tmp_path / "audio")))
    assert facts(found, tmp_path / "audio") == TURNS


def test_the_evaluations_of_iemocap_count_more_than_its_table_and_must_not_contradict_it(tmp_path: Path) -> None:
    TREES["iemocap"].build(tmp_path)
    turn = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    table = tmp_path / "iemocap_full_dataset.csv"
    table.write_text(csv(KAGGLE, f"1,impro,F,exc,3,2,{turn}"))
    clip = next(c for c in scan(tmp_path).utterances if c.path.stem == "Ses01F_impro01_F000")
    assert clip.emotion == "excited" and clip.votes and clip.dimensions
    table.write_text(csv(KAGGLE, f"1,impro,F,sad,3,2,{turn}"))
    with pytest.raises(DataError, match=r"Ses01F_impro01_F000\.wav has emotion .*, but .* by .*; keep one of the two"):
        scan(tmp_path)


def test_a_label_file_as_the_root_stands_for_what_it_lists(tmp_path: Path) -> None:
    TREES["meld"].build(tmp_path / "meld")
    everything = scan(tmp_path / "meld").utterances
    dev = scan(next((tmp_path / "meld").rglob("dev_sent_emo.csv"))).utterances
    assert set(dev) == {clip for clip in everything if clip.part == "valid"} and dev
    TREES["msppodcast"].build(tmp_path / "msp")
    assert scan(tmp_path / "msp/Labels/labels_consensus.csv").utterances == scan(tmp_path / "msp").utterances
    TREES["mspimprov"].build(tmp_path / "improv")
    text = next((tmp_path / "improv").rglob("Eval*tion.txt"))
    assert scan(text).utterances == scan(tmp_path / "improv").utterances


def test_columns_given_by_the_user_make_a_table_of_a_label_file(tmp_path: Path) -> None:
    touch(tmp_path, TURNS)
    config = TablesConfig(columns={"gender": "sex", "session": "speaker"})
    assert {clip.corpus for clip in scan(kaggle_table(tmp_path), tables=config).utterances} == {"iemocap_full_dataset"}


OLD_LISTS = {
    "Partitions.txt": "Train; MSP-PODCAST_0001_0008.wav\nTest2; MSP-PODCAST_0002_0019.wav\n",
    "Speaker_ids.txt": "MSP-PODCAST_0001_0008.wav; Speaker_7; Male\nMSP-PODCAST_0002_0019.wav; Unknown\n",
}
RATED = """MSP-PODCAST_0001_0008.wav; N; A:2.8; V:4.0; D:3.2;
WORKER00000001; Neutral; Neutral,Concerned; A:3.0; V:4.0; D:3.0;
WORKER00000002; Happy; Happy; A:3.0; V:4.0; D:3.0;

MSP-PODCAST_0002_0019.wav; A; A:5.5; V:2.0; D:NaN;
WORKER00000002; Angry; Angry; A:5.5; V:2.0; D:4.0;
"""


@pytest.mark.parametrize("with_votes", [False, True])
def test_early_releases_of_msp_podcast_list_speakers_and_partitions_apart(tmp_path: Path, with_votes: bool) -> None:
    clips = ["MSP-PODCAST_0001_0008.wav", "MSP-PODCAST_0002_0019.wav"]
    touch(tmp_path, [f"Audios/{clip}" for clip in clips] + ["Labels/labels.txt"])
    for name, text in OLD_LISTS.items():
        (tmp_path / name).write_text(text)
    if with_votes:
        (tmp_path / "Labels/labels.txt").write_text(RATED)
    else:
        (tmp_path / "Labels/labels.txt").unlink()
        rows = [f"{clips[0]},N,2.8,4.0,3.2", f"{clips[1]},A,5.5,2.0,"]
        (tmp_path / "Labels/labels_concensus.csv").write_text(csv("FileName,EmoClass,EmoAct,EmoVal,EmoDom", *rows))
    first, second = sorted(scan(tmp_path).utterances, key=lambda clip: clip.path)
    assert (first.emotion, first.speaker, first.sex, first.part) == ("neutral", "07", "male", "train")
    assert dict(first.dimensions) == {"arousal": 2.8, "valence": 4.0, "dominance": 3.2}
    assert (second.emotion, second.speaker_known, second.sex, second.part) == ("angry", False, None, "test")
    assert dict(second.dimensions) == {"arousal": 5.5, "valence": 2.0}
    assert first.votes == ((("happy", 1), ("neutral", 1)) if with_votes else ())


@pytest.mark.parametrize(
    ("corpus", "name", "why"),
    [
        ("iemocap", "Session1/dialog/wav/Ses01F_impro01.wav", "a whole dialog, whose turns are the clips"),
        ("msppodcast", "Audios/MSP-PODCAST_test3_0001.wav", "a clip of Test3, whose labels are kept back"),
        ("meld", "output_repeated_splits_test/final_videos_testdia0_utt0.mp4", "a film beside those that the label"),
        ("asvpesd", "Audio/03-02-05-01-02-13-02-01.wav", "a sound without words"),
    ],
)
def test_other_files_of_a_corpus_are_skipped_with_their_reason(tmp_path, corpus: str, name: str, why: str) -> None:
    TREES[corpus].build(tmp_path)
    touch(tmp_path, [name])
    reason, detail = skipped(scan(tmp_path))[Path(name).name]
    assert reason == "unknown_name" and why in detail


RAVDESS_NAMES = {"03-01-01-01-01-01-01": "neutral", "03-01-05-01-02-01-02": "anger", "03-01-06-02-01-01-02": "fear"}


@pytest.mark.parametrize("folder", ["", "audio/"])
def test_a_table_without_speakers_has_those_of_known_names(tmp_path: Path, folder: str) -> None:
    rows = [f"{folder}{name}.wav,{word}" for name, word in RAVDESS_NAMES.items()]
    touch(tmp_path, [f"{folder}{name}.wav" for name in RAVDESS_NAMES])
    (tmp_path / "own.csv").write_text(csv("path,emotion", *rows))
    found = scan(tmp_path / "own.csv")
    assert [(c.speaker_id, c.emotion, c.sex, c.language, c.speaker_known) for c in found.utterances] == [
        ("ravdess/01", "neutral", "male", "en", True),
        ("ravdess/02", "angry", "female", "en", True),
        ("ravdess/02", "fearful", "female", "en", True),
    ]
    assert "own.csv: no column speaker: who speaks is what the names of ravdess say" in found.notes


@pytest.mark.parametrize(
    ("header", "change"),
    [
        ("path,emotion", {"anger": "sad"}),  # another emotion than the name's
        ("path,emotion,sex", {"neutral": "neutral,female", "anger": "anger,female", "fear": "fear,female"}),
        ("path,emotion,corpus", {"neutral": "neutral,lab", "anger": "anger,lab", "fear": "fear,lab"}),
        ("path,emotion,start", {"neutral": "neutral,0", "anger": "anger,0.5", "fear": "fear,0"}),  # parts of files
    ],
)
def test_a_table_that_says_something_else_than_its_names_has_no_speakers(tmp_path, header, change) -> None:
    touch(tmp_path, [f"{name}.wav" for name in RAVDESS_NAMES])
    rows = [f"{name}.wav,{change.get(word, word)}" for name, word in RAVDESS_NAMES.items()]
    (tmp_path / "own.csv").write_text(csv(header, *rows))
    assert not any(clip.speaker_known for clip in scan(tmp_path / "own.csv").utterances)


def test_one_other_name_leaves_the_speakers_of_a_table_open(tmp_path: Path) -> None:
    touch(tmp_path, [*(f"{name}.wav" for name in RAVDESS_NAMES), "mine.wav"])
    rows = [f"{name}.wav,{word}" for name, word in RAVDESS_NAMES.items()]
    (tmp_path / "own.csv").write_text(csv("path,emotion", *rows, "mine.wav,sad"))
    assert not any(clip.speaker_known for clip in scan(tmp_path / "own.csv").utterances)


def test_a_table_of_turns_of_iemocap_has_their_speakers(tmp_path: Path) -> None:
    touch(tmp_path, ["Ses01F_impro01_M000.wav", "Ses04M_script01_1_F002.wav"])
    rows = ["Ses01F_impro01_M000.wav,fru", "Ses04M_script01_1_F002.wav,anger"]
    (tmp_path / "own.csv").write_text(csv("file,major_emotion", *rows))
    assert [(c.speaker_id, c.emotion, c.sex) for c in scan(tmp_path / "own.csv").utterances] == [
        ("iemocap/01M", "frustrated", "male"), ("iemocap/04F", "angry", "female"),
    ]  # fmt: skip


def test_a_table_whose_files_lie_in_another_folder_names_it(tmp_path: Path) -> None:
    touch(tmp_path, ["samples/one.wav"])
    (tmp_path / "data.tsv").write_text("file_id\temotion\none.wav\tsad\n")
    with pytest.raises(DataError, match=rf"one\.wav is there, so set data\.audio_root={tmp_path / 'samples'}$"):
        scan(tmp_path / "data.tsv")


FOLDERS = {
    "train/Angry/x/1.wav": ("angry", "train", "unknown", None),
    "train/02_happiness/2.wav": ("happy", "train", "unknown", None),
    "test/speaker 3/female/pleasant-surprise/3.mp3": ("surprised", "test", "03", "female"),
    "Actor_12/sad/4.mp4": ("sad", None, "12", None),
}


def test_recordings_of_no_known_corpus_have_the_emotions_of_their_folders(tmp_path: Path) -> None:
    others = ["loose.wav", "misc/5.wav", "sad/._6.wav", "sad/7.txt"]
    root = touch(tmp_path / "Our Lab", [*FOLDERS, *others])
    found = scan(root)
    assert {
        c.path.relative_to(root).as_posix(): (c.emotion, c.part, c.speaker, c.sex) for c in found.utterances
    } == FOLDERS
    assert [(c.corpus, c.speaker_known) for c in found.utterances].count(("our lab", False)) == 2
    assert {file.path.name: file.reason for file in found.skipped} == {
        "loose.wav": "unknown_name", "5.wav": "unknown_name", "._6.wav": "hidden",
    }  # fmt: skip
    (note,) = found.notes
    assert "no known corpus; the folders of 4 recordings name their emotions (angry, happy, sad, surprised)" in note
    assert "nothing says who speaks in 2" in note


@pytest.mark.parametrize(
    "files",
    [
        ["sad/1.wav", "sad/2.wav"],  # one emotion
        ["music/1.wav", "talks/2.wav"],
        ["sad/1.wav", "angry/Ses01F_impro01_F000.wav"],  # a known corpus that lacks its labels
    ],
)
def test_other_folders_are_refused_with_one_line(tmp_path: Path, files: list[str]) -> None:
    with pytest.raises(DataError, match="no known clip among 2 audio files") as caught:
        scan(touch(tmp_path, files))
    assert "\n" not in str(caught.value)


def test_folders_of_emotions_are_not_read_beside_a_known_corpus_or_where_one_is_asked_for(tmp_path: Path) -> None:
    root = touch(tmp_path, ["sad/03-01-05-01-01-01-07.wav", "sad/1.wav", "angry/2.wav"])
    found = scan(root)
    assert [(clip.corpus, clip.emotion) for clip in found.utterances] == [("ravdess", "angry")]
    assert {file.reason for file in found.skipped} == {"unknown_name"}
    with pytest.raises(DataError, match="no known clip"):
        scan(root, corpora=["emovo"])


def test_annotations_in_folders_of_their_own_are_no_clips_that_lack_their_sound(tmp_path: Path) -> None:
    clips = ["wav/03a01Fa.wav", "wav/08a01Wa.wav"]
    notes = ["lablaut/03a01Fa.lablaut", "silb/08a01Wa.silb", "labsilb/08a01Wa.labsilb", "text/03a01Fa.txt"]
    found = scan(touch(tmp_path, [*clips, *notes, "text/09a01Wa.txt", "raw/08a01Wa.xyz"]))
    assert len(found.utterances) == 2
    assert {file.path.name: file.reason for file in found.skipped} == {
        "09a01Wa.txt": "format", "08a01Wa.xyz": "format",
    }  # fmt: skip


def test_a_folder_whose_label_files_lie_elsewhere_says_so(tmp_path: Path) -> None:
    TREES["msppodcast"].build(tmp_path)
    touch(tmp_path, ["Audios/MSP-PODCAST_test3_0001.wav", "Audios/zoo.wav"])
    with pytest.raises(DataError, match="no label file lists it: name the folder of MSP-Podcast that holds its label"):
        scan(tmp_path / "Audios")


def test_a_table_in_a_folder_that_no_name_explains_is_pointed_at(tmp_path: Path) -> None:
    root = touch(tmp_path / "hume", ["wav/[00001].wav", "wav/[00002].wav", "data_info.csv", ".hidden.csv"])
    with pytest.raises(DataError, match=r"There is data_info\.csv: if it lists these files, name it instead"):
        scan(root)


def test_a_folder_beside_folders_of_emotions_that_is_none_is_named_with_a_fix(tmp_path: Path) -> None:
    found = scan(touch(tmp_path, ["angry/1.wav", "sad/2.wav", "sneaky/3.wav"]))
    assert len(found.utterances) == 2
    (skipped,) = found.skipped
    assert (skipped.path.name, skipped.detail) == (
        "3.wav", "no folder above it is named after an emotion that serx knows; list it in a table",
    )  # fmt: skip
