"""What label files say beyond the emotion: votes, dimensions, parts, speakers; and what is said of damaged ones."""

import json
from pathlib import Path

import pytest

from serx.data.corpora import LABEL_MAPS
from serx.data.corpora.readers import cremad_votes
from serx.data.labels import assign_labels
from serx.data.scanning.scanner import scan
from serx.data.splits.protocol_config import ProtocolConfig
from serx.data.splits.protocols import make_split
from serx.data.utterance import Utterance
from serx.errors import DataError
from tests.data.corpora.trees import TREES, csv, sentiment
from tests.data.layouts import touch


def clips_of(name: str, root: Path) -> dict[str, Utterance]:
    return {clip.path.stem: clip for clip in scan(TREES[name].build(root)).utterances}


def test_iemocap_gives_votes_without_the_actors_own_dimensions_and_the_speaker_of_the_turn(tmp_path: Path) -> None:
    clips = clips_of("iemocap", tmp_path)
    clip = clips["Ses02F_impro01_M000"]
    assert (clip.speaker, clip.sex, clip.statement, clip.part) == ("02M", "male", "impro01", None)
    assert clip.votes == (("excited", 1.0), ("frustrated", 0.5), ("neutral", 1.5))
    assert dict(clip.dimensions) == {"valence": 2.5, "arousal": 3.0, "dominance": 2.0}
    assert clip.source == "Ses02F_impro01.txt:3"
    assert clips["Ses02F_impro01_F000"].speaker == "02F"


def test_msp_podcast_gives_partitions_votes_dimensions_and_unknown_speakers(tmp_path: Path) -> None:
    clips = clips_of("msppodcast", tmp_path)
    first, unknown = clips["MSP-PODCAST_0001_0008"], clips["MSP-PODCAST_0002_0001"]
    assert (first.speaker, first.sex, first.part) == ("07", "male", "train")
    assert first.votes == (("neutral", 2), ("other", 1))
    assert dict(first.dimensions) == {"arousal": 3.2, "dominance": 3.0, "valence": 4.1}
    assert (unknown.speaker_known, unknown.part, unknown.sex) == (False, "test", None)
    assert [clips[f"MSP-PODCAST_{n}"].part for n in ("0001_0009", "0002_0002")] == ["valid", "test"]
    missing = scan(tmp_path).skipped
    assert [(file.path.name, file.reason) for file in missing] == [("MSP-PODCAST_0002_0003", "missing")]
    assert "labels_consensus.csv:6 lists it" in missing[0].detail


def test_another_podcast_corpus_with_label_files_of_the_same_name_is_not_msp_podcast(tmp_path: Path) -> None:
    touch(tmp_path, ["Audios/OUR-PODCAST_0001_0001.wav"])
    row = "OUR-PODCAST_0001_0001.wav,N,3.2,4.1,3.0,7,Male,Train"
    (tmp_path / "labels_consensus.csv").write_text(csv(PODCAST, row))
    with pytest.raises(DataError, match="'OUR-PODCAST_0001_0001.wav': the name matches no corpus that serx knows"):
        scan(tmp_path)


def test_biic_podcast_is_known_by_its_clips_or_by_its_folder(tmp_path: Path) -> None:
    clips = clips_of("biicpodcast", tmp_path / "any")
    clip = clips["BIIC-PODCAST_0001_0009"]
    assert (clip.corpus, clip.speaker, clip.sex, clip.part) == ("biicpodcast", "12", "female", "test")
    assert dict(clip.dimensions) == {"arousal": 5.0, "dominance": 6.0, "valence": 2.0}
    folder = touch(tmp_path / "BIIC-Podcast_v1.01", ["wav/0007_12.wav"])
    (folder / "labels_consensus.csv").write_text(csv(PODCAST, "0007_12.wav,N,3.2,4.1,3.0,7,Male,Train"))
    assert [clip.speaker_id for clip in scan(folder).utterances] == ["biicpodcast/07"]


def test_mosei_makes_votes_of_ratings_and_a_speaker_of_each_video(tmp_path: Path) -> None:
    clips = clips_of("mosei", tmp_path)
    happy, neutral, open_ = clips["-3g5yACwYnA_0"], clips["-3g5yACwYnA_1"], clips["81406_12"]
    assert happy.votes == (("happy", 1.5), ("neutral", 1.0), ("sad", 0.5))
    assert (happy.emotion, happy.speaker, neutral.emotion) == ("happy", "-3g5yACwYnA", "neutral")
    assert (open_.emotion, open_.speaker, open_.votes) == (
        "no_agreement",
        "81406",
        (("angry", 1.0), ("fearful", 1.0), ("sad", 1.0)),
    )


def test_mosei_with_sentiment_alone_has_three_classes_a_rating_and_parts(tmp_path: Path) -> None:
    videos = ["1002/2", "1002/12", "100278/2", "-3g5yACwYnA/2"]  # one name begins with another
    root = touch(tmp_path / "any", [f"Raw/{video}.mp4" for video in videos])
    rows = ["1002,2,0.6666666865348816,,train", "1002,12,0,,train", "100278,2,-1.3333,,valid", "-3g5yACwYnA,2,3,,test"]
    (root / "label.csv").write_text(sentiment(*rows))
    clips = {clip.path.relative_to(root / "Raw").with_suffix("").as_posix(): clip for clip in scan(root).utterances}
    assert {clip.corpus for clip in clips.values()} == {"mosei"}
    assert [clips[video].emotion for video in videos] == ["positive", "neutral", "negative", "positive"]
    assert [clips[video].dimensions for video in videos] == [
        (("sentiment", value),) for value in (0.6666666865348816, 0, -1.3333, 3)
    ]
    assert [clips[video].part for video in videos] == ["train", "train", "valid", "test"]
    assert [clips[video].speaker for video in videos] == ["1002", "1002", "100278", "-3g5yACwYnA"]


@pytest.mark.parametrize(
    ("folder", "rating", "of_text", "corpus"),
    [
        ("any", "0.4", "", "mosi"), ("any", "0.3333", "", "mosei"), ("any", "0.4", "-0.2", "sims"),
        ("MOSEI", "1", "", "mosei"), ("cmu-mosi", "1", "", "mosi"), ("CH-SIMS v2", "1", "", "sims"),
    ],
)  # fmt: skip
def test_a_table_of_sentiment_is_of_the_corpus_of_its_folder_or_its_ratings(
    tmp_path: Path, folder: str, rating: str, of_text: str, corpus: str
) -> None:
    root = touch(tmp_path / folder, ["Raw/a/1.mp4"])
    (root / "label.csv").write_text(sentiment(f"a,1,{rating},{of_text},train"))
    (clip,) = scan(root).utterances
    assert (clip.corpus, clip.dimensions) == (corpus, (("sentiment", float(rating)),))


def test_another_table_called_label_is_no_sentiment(tmp_path: Path) -> None:
    root = touch(tmp_path, ["Raw/a/1.mp4"])
    (root / "label.csv").write_text(csv("video_id,clip_id,label,mode", "a,1,angry,train"))
    with pytest.raises(DataError, match=r"There is label\.csv"):
        scan(root)


def test_msp_podcast_is_read_from_json_as_well(tmp_path: Path) -> None:
    import json

    row = {
        "EmoClass": "D",
        "EmoAct": 1,
        "EmoVal": 2,
        "EmoDom": 3,
        "SpkrID": 5,
        "Gender": "Female",
        "Split_Set": "Test1",
    }
    touch(tmp_path, ["Audio/MSP-PODCAST_0003_0001.wav"])
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "labels_concensus.json").write_text(json.dumps({"MSP-PODCAST_0003_0001.wav": row}))
    votes = {"MSP-PODCAST_0003_0001.wav": {"W1": {"EmoClass_Major": ["Disgust"]}, "W2": {"EmoClass_Major": ["Fear"]}}}
    (tmp_path / "label" / "labels_detailed.json").write_text(json.dumps(votes))
    [clip] = scan(tmp_path).utterances
    assert (clip.emotion, clip.speaker, clip.part) == ("disgust", "05", "test")
    assert clip.votes == (("disgust", 1), ("fearful", 1))


def test_msp_improv_counts_a_dyad_as_one_speaker_and_reads_votes(tmp_path: Path) -> None:
    clips = clips_of("mspimprov", tmp_path)
    one, other = clips["MSP-IMPROV-S01A-F03-S-FM01"], clips["MSP-IMPROV-S01A-F03-S-MF01"]
    assert one.speaker == other.speaker == "session3"
    assert one.votes == (("angry", 1), ("other", 1))
    assert one.dimensions == (("valence", 1.5),)


def test_meld_finds_equal_names_in_the_folder_of_their_part(tmp_path: Path) -> None:
    found = scan(TREES["meld"].build(tmp_path)).utterances
    said = {(clip.path.parent.name, clip.path.stem): (clip.speaker, clip.part) for clip in found}
    assert said["train_splits", "dia0_utt1"] == ("Train Guest", "train")
    assert said["dev_splits_complete", "dia0_utt1"] == ("Dev Guest", "valid")
    assert said["output_repeated_splits_test", "dia0_utt1"] == ("Test Guest", "test")


def test_other_label_files_give_their_votes_parts_and_people(tmp_path: Path) -> None:
    assert clips_of("emozionalmente", tmp_path / "e")["1_joy"].votes == (("joy", 2), ("surprised", 1))
    dusha = clips_of("dusha", tmp_path / "d")
    assert (dusha["aa"].votes, dusha["bb"].emotion, dusha["cc"].part) == (
        (("other", 1), ("sad", 2)),
        "no_agreement",
        "test",
    )
    m3ed = clips_of("m3ed", tmp_path / "m")
    assert (m3ed["A_Happy_1_1"].speaker_id, m3ed["A_Happy_1_1"].part) == ("m3ed/one x", "train")
    assert clips_of("emorynlp", tmp_path / "n")["sea1_ep15_sc1_utt1"].speaker == "Rachel Green"


DUSHA = {"golden_emo": None, "speaker_text": "t", "speaker_emo": "sad", "hash_id": "h", "duration": "2.0"}


def dusha_lines(*rows: dict) -> str:
    return "".join(json.dumps(DUSHA | row, ensure_ascii=False) + "\n" for row in rows)


def test_dusha_s_json_lines_say_what_its_tables_say(tmp_path: Path) -> None:
    tables, lines = TREES["dusha"].build(tmp_path / "tables"), TREES["dusha"].build(tmp_path / "lines")
    for table in sorted(lines.rglob("*.tsv")):
        header, *rows = [line.split("\t") for line in table.read_text().splitlines()]
        table.with_suffix(".jsonl").write_text(dusha_lines(*(dict(zip(header, row, strict=True)) for row in rows)))
        table.unlink()
    said = [
        {
            clip.path.relative_to(root): (clip.speaker, clip.emotion, clip.votes, clip.part)
            for clip in scan(root).utterances
        }
        for root in (tables, lines)
    ]
    assert said[0] == said[1] and len(said[0]) == 3


@pytest.mark.parametrize("raw", [True, False])
def test_labels_that_dusha_s_script_aggregated_count_and_keep_the_votes_where_these_are_there(
    raw: bool, tmp_path: Path
) -> None:
    root = TREES["dusha"].build(tmp_path)
    if not raw:
        for table in root.rglob("*.tsv"):
            table.unlink()
    folder = root / "processed_dataset_090" / "aggregated_dataset"
    folder.mkdir(parents=True)
    train = {"audio_path": "../../crowd_train/wavs/bb.wav", "emotion": "angry", "source_id": "18"}
    test = {"audio_path": "..\\..\\crowd_test\\wavs\\cc.wav", "emotion": "positive", "source_id": "99"}
    (folder / "crowd_train.jsonl").write_text(dusha_lines(train))
    (folder / "crowd_test.jsonl").write_text(dusha_lines(test))
    clips = {clip.path.stem: clip for clip in scan(root).utterances}
    assert {name: (clip.emotion, clip.speaker, clip.part) for name, clip in clips.items()} == {
        "bb": ("angry", "18", "train"),
        "cc": ("positive", "99", "test"),
    }
    assert clips["bb"].votes == ((("angry", 1), ("sad", 1)) if raw else ())
    (folder / "crowd_test.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"crowd_test\.jsonl:1: not JSON"):
        scan(root)


def test_mer_2023_gives_parts_and_valence(tmp_path: Path) -> None:
    clips = clips_of("mer2023", tmp_path)
    assert (clips["sample_1"].part, clips["sample_1"].dimensions) == ("train", (("valence", -1.5),))
    assert (clips["sample_3"].part, clips["sample_4"].dimensions) == ("test", ())


PODCAST = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
HEADER = '"","A","D","F","H","N","S","fileName","numResponses"'


def test_cremad_takes_the_votes_on_the_sound_alone_from_its_own_table(tmp_path: Path) -> None:
    touch(tmp_path, ["AudioWAV/1001_IEO_HAP_HI.wav", "AudioWAV/1001_IEO_NEU_XX.wav"])
    rows = ['"100004",2,0,0,6,2,0,"1001_IEO_HAP_HI",10', '"200004",0,0,0,9,0,0,"1001_IEO_HAP_HI",9']
    (tmp_path / "processedResults").mkdir()
    (tmp_path / "processedResults" / "tabulatedVotes.csv").write_text(csv(HEADER, *rows))
    happy, neutral = scan(tmp_path).utterances
    assert happy.votes == (("angry", 2), ("happy", 6), ("neutral", 2))
    assert (neutral.votes, happy.emotion) == ((), "happy")


def test_cremad_s_summary_gives_equal_shares_where_the_votes_are_absent(tmp_path: Path) -> None:
    table = tmp_path / "summaryTable.csv"
    table.write_text(
        csv('"","FileName","VoiceVote","VoiceLevel"', '"1","1001_IEO_SAD_HI","A:F","30:51"', '"2","x","",""')
    )
    assert cremad_votes([table]) == {"1001_IEO_SAD_HI": (("angry", 0.5), ("fearful", 0.5))}


@pytest.mark.parametrize(
    ("name", "file", "text", "line"),
    [
        (
            "iemocap",
            "IEMOCAP_full_release/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
            "[1.0 - 2.0]\tnonsense\tneu\t[1.0, 1.0, 1.0]",
            r"Ses01F_impro01\.txt:1: nonsense is no turn of IEMOCAP",
        ),
        (
            "msppodcast",
            "Labels/labels_consensus.csv",
            csv(PODCAST, "MSP-PODCAST_0001_0008.wav,N,x,1,1,1,Male,Train"),
            r"labels_consensus\.csv:2: 'x' is not a number",
        ),
        ("meld", "train_sent_emo.csv", "a,b\n1,2\n", r"train_sent_emo\.csv: columns Speaker, Emotion, Dialogue_ID"),
        ("dusha", "crowd_train/raw_crowd_train.tsv", "a\tb\n", r"raw_crowd_train\.tsv: columns audio_path"),
        ("m3ed", "annotation.json", "{", r"annotation\.json: not JSON .*; get a fresh copy"),
        (
            "mspimprov",
            "Evalution.txt",
            "UTD-IMPROV-oops.avi; A;\n",
            r"Evalution\.txt:1: 'UTD-IMPROV-oops\.avi' is no line",
        ),
    ],
    ids=["iemocap", "msppodcast", "meld", "dusha", "m3ed", "mspimprov"],
)
def test_a_damaged_label_file_is_named_with_its_line(
    name: str, file: str, text: str, line: str, tmp_path: Path
) -> None:
    root = TREES[name].build(tmp_path)
    (root / file).write_text(text)
    with pytest.raises(DataError, match=line) as error:
        scan(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["train.csv", "metadata.csv", "samples.csv", "annotation.json", "Evaluation.txt"])
def test_a_file_of_such_a_name_that_is_something_else_is_left_alone(file: str, tmp_path: Path) -> None:
    touch(tmp_path, ["OAF_back_angry.wav", "a.wav"])
    (tmp_path / file).write_text("[1]" if file.endswith("json") else "path,emotion\na.wav,sad\n")
    assert [clip.corpus for clip in scan(tmp_path).utterances] == ["tess"]


def test_cremad_s_votes_are_found_beside_the_folder_of_its_audio(tmp_path: Path) -> None:
    touch(tmp_path, ["AudioWAV/1001_IEO_HAP_HI.wav"])
    (tmp_path / "processedResults").mkdir()
    row = '"100004",2,0,0,6,2,0,"1001_IEO_HAP_HI",10'
    (tmp_path / "processedResults" / "tabulatedVotes.csv").write_text(csv(HEADER, row))
    [clip] = scan(tmp_path / "AudioWAV").utterances
    assert clip.votes == (("angry", 2), ("happy", 6), ("neutral", 2))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("iemocap", "IEMOCAP_full_release/Session1/sentences"),
        ("msppodcast", "Audios"),
        ("mspimprov", "Audio"),
        ("meld", "train_splits"),
        ("emorynlp", "emorynlp_train_splits"),
        ("thaiser", "studio1-10"),
    ],
)
def test_clips_without_their_label_files_are_known_as_such(name: str, folder: str, tmp_path: Path) -> None:
    root = TREES[name].build(tmp_path)
    with pytest.raises(DataError, match="no label file lists it: name the folder of .* that holds its label files too"):
        scan(root / folder)


def test_one_session_of_iemocap_is_read_alone(tmp_path: Path) -> None:
    root = TREES["iemocap"].build(tmp_path) / "IEMOCAP_full_release" / "Session4"
    assert {clip.speaker for clip in scan(root).utterances} == {"04F", "04M"}


def test_iemocap_is_tested_one_session_at_a_time(tmp_path: Path) -> None:
    clips = scan(TREES["iemocap"].build(tmp_path)).utterances
    assert assign_labels(clips, None, LABEL_MAPS["iemocap4"]).labels == ("neutral", "happy")
    labeled = assign_labels(clips, None, {})
    tested = []
    for fold in range(5):
        config = ProtocolConfig(protocol="iemocap5", fold=fold)
        split = make_split(labeled.utterances, labeled.targets, config)
        parts = [{labeled.utterances[i].speaker for i in part} for part in (split.test, split.valid, split.train)]
        assert [len(part) for part in parts] == [2, 2, 6]
        assert split.speaker_independent and split.stamp == f"iemocap5 fold {fold}, speaker-independent"
        tested += sorted(parts[0])
    assert tested == [f"{n:02d}{letter}" for n in range(1, 6) for letter in "FM"]
