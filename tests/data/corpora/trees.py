"""Made-up trees of each known corpus: the published folders and names, empty audio, and small label files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from tests.data import layouts
from tests.data.layouts import touch


@dataclass(frozen=True)
class Tree:
    """Files below a folder, and what a scan must find in them."""

    names: list[str]
    speakers: int  # 0: unknown
    women: int
    men: int
    emotions: set[str]
    texts: Mapping[str, str] = field(default_factory=dict)  # label file -> its text
    clips: int = -1  # -1: one for each name
    languages: tuple[str | None, ...] = ()

    def build(self, root: Path) -> Path:
        """Writes the tree; returns `root`."""
        touch(root, [*self.names, *self.texts])
        for name, text in self.texts.items():
            (root / name).write_text(text, encoding="utf-8")
        return root


SEVEN = {"neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised"}


def csv(header: str, *rows: str) -> str:
    return "\n".join([header, *rows]) + "\n"


def names(form: str, *codes: object) -> list[str]:
    """`form` filled with every combination of the codes."""
    choices = [code.split() if isinstance(code, str) else list(code) for code in codes]  # type: ignore[call-overload]
    return [form.format(*chosen) for chosen in product(*choices)]


def _cafe() -> list[str]:
    plain = names("N/{1:02d}-N-1-{0}.wav", range(1, 7), range(1, 13))
    return plain + names("{0}/{1:02d}-{0}-{2}-{3}.wav", "C D J P S T", range(1, 13), "1 2", range(1, 7))


def _nemo() -> list[str]:
    people = "KS0 MP0 SM0 TP0 WR0 EB0 IC0 KD0 MK0"
    return names("samples/{0}_{1}_{2}.wav", people, "anger fear happiness neutral sadness surprised", range(1, 4))


def _esd() -> list[str]:
    folders = "Angry Happy Neutral Sad Surprise"
    return names("{0:04d}/{1}/{0:04d}_{2:06d}.wav", range(1, 21), folders, (1, 351))


def _oreau() -> list[str]:
    men = "07 08 09 12 14 16 18 19 20 22 23 25 26 27 28 29 30 31 32 33 36 38 39 40 41"
    forms = [("f", "10 11 13 21 24 37 42"), ("m", men)]
    return [
        name
        for sex, people in forms
        for c in "CDJNPST"
        for name in names(f"{sex}/sess{c.lower()}/{{0}}a01{c}a.wav", people)
    ]


def _enterface() -> list[str]:
    emotions = {"anger": "an", "disgust": "di", "fear": "fe", "happiness": "ha", "sadness": "sa", "surprise": "su"}
    found = [
        f"subject {n}/{word}/sentence {k}/s{12 if n == 11 else n}_{code}_{k}.avi"
        for n, (word, code), k in product((1, 2, 11, 12), emotions.items(), range(1, 6))
    ]
    found += [f"subject 3/{word}/sentence 1/s_3_{code}_1.avi" for word, code in emotions.items()]
    return [*found, "subject 16/surprise/sentence 3/s16_su_3avi.avi"]


def _iemocap() -> Tree:
    turns = [("impro01", "M000", "neu"), ("impro01", "F000", "exc"), ("script01_1", "F001", "xxx")]
    audio, texts = [], {}
    for session in range(1, 6):
        base = f"IEMOCAP_full_release/Session{session}"
        for dialog in ("impro01", "script01_1"):
            name = f"Ses{session:02d}F_{dialog}"
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for of, turn, code in turns:
                if of == dialog:
                    lines += [
                        f"[6.2901 - 8.2357]\t{name}_{turn}\t{code}\t[2.5000, 3.0000, 2.0000]",
                        "C-E2:\tNeutral;\t()",
                        "C-E3:\tNeutral state; Frustration;\t()",
                        "C-E4:\tExcited;\t()",
                        "C-F1:\tAnger;\t()",
                        "A-E3:\tval 3; act 2; dom  2;\t()",
                        "",
                    ]
                    audio.append(f"{base}/sentences/wav/{name}/{name}_{turn}.wav")
            texts[f"{base}/dialog/EmoEvaluation/{name}.txt"] = "\n".join(lines)
            texts[f"{base}/dialog/EmoEvaluation/Categorical/{name}_e2_cat.txt"] = "ignored"
    return Tree(audio, 10, 5, 5, {"neutral", "excited", "no_agreement"}, texts, languages=("en",))


def _msppodcast() -> Tree:
    rows = [
        "MSP-PODCAST_0001_0008.wav,N,3.2,4.1,3.0,7,Male,Train",
        "MSP-PODCAST_0001_0009.wav,C,5.0,2.0,6.0,12,Female,Development",
        "MSP-PODCAST_0002_0001.wav,X,4.0,4.0,4.0,Unknown,Unknown,Test1",
        "MSP-PODCAST_0002_0002.wav,U,4.0,4.0,4.0,12,Female,Test2",
        "MSP-PODCAST_0002_0003.wav,A,4.0,4.0,4.0,12,Female,Train",
    ]
    detailed = [
        '"MSP-PODCAST_0001_0008.wav","WORKER00000001; Neutral; Neutral,Concerned; A:3.0; V:4.0; D:3.0;"',
        '"MSP-PODCAST_0001_0008.wav","WORKER00000002; Neutral; A:3.0; V:4.0; D:3.0;"',
        '"MSP-PODCAST_0001_0008.wav","WORKER00000003; Other-Curious; A:3.0; V:4.0; D:3.0;"',
    ]
    texts = {
        "Labels/labels_consensus.csv": csv("FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set", *rows),
        "Labels/labels_detailed.csv": csv("FileName,Rating", *detailed),
    }
    audio = [f"Audios/{row.split(',')[0]}" for row in rows[:4]]
    emotions = {"neutral", "contempt", "no_agreement", "surprised"}
    return Tree(audio, 2, 1, 1, emotions, texts, languages=("en",))


def _biicpodcast() -> Tree:
    rows = [
        "BIIC-PODCAST_0001_0008.wav,N,3.2,4.1,3.0,7,Male,Train",
        "BIIC-PODCAST_0001_0009.wav,H,5.0,2.0,6.0,12,Female,Test",
    ]
    texts = {"labels_consensus.csv": csv("FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set", *rows)}
    audio = [f"Audios/{row.split(',')[0]}" for row in rows]
    return Tree(audio, 2, 1, 1, {"neutral", "happy"}, texts, languages=("zh",))


def _mosei() -> Tree:
    """Three raters; anger, disgust, fear, happiness, sadness, surprise of 0 to 3."""
    ratings = {
        "-3g5yACwYnA,0": ("0,0,0,2,0,0", "0,0,0,1,1,0", "0,0,0,0,0,0"),
        "-3g5yACwYnA,1": ("0,0,0,0,0,0", "0,0,0,0,0,0", "0,1,0,0,0,0"),
        "81406,12": ("3,0,0,0,0,0", "0,0,0,0,1,0", "0,0,2,0,0,0"),
    }
    rows = [f"{clip},{rating},2" for clip, three in ratings.items() for rating in three]
    answers = ",".join(f"Answer.{word}" for word in ("anger", "disgust", "fear", "happiness", "sadness", "surprise"))
    texts = {
        "Raw/Labels/5000_batch_raw.csv": csv(f"Input.VIDEO_ID,Input.CLIP,{answers},Answer.sentiment", *rows[:6]),
        "Raw/Labels/Batch_2980374_batch_results.csv": csv(
            f"Input.VIDEO_ID,Input.CLIP,{answers},Answer.sentiment", *rows[6:]
        ),
        "Raw/Labels/mosi_pom_output.csv": csv("file,sentiment", "81406,1"),
    }
    audio = [f"Raw/Videos/Segmented/Combined/{clip.replace(',', '_')}.mp4" for clip in ratings]
    return Tree(audio, 2, 0, 0, {"happy", "neutral", "no_agreement"}, texts, languages=("en",))


def sentiment(*rows: str) -> str:
    """`label.csv` of MMSA, of rows `video,clip,sentiment,of the text,part`."""
    lines = []
    for row in rows:
        video, clip, label, text, part = row.split(",")
        lines.append(f'{video},{clip},"well, yes",{label},{text},{text},{text},Positive,{part}')
    return csv("video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode", *lines)


def _sentiment(first: str, second: str, clips: str, ratings: str, text: str, language: str) -> Tree:
    (one, two, three), (low, middle, high) = clips.split(), ratings.split()
    rows = (
        f"{first},{one},{low},{text},train",
        f"{first},{two},{middle},{text},valid",
        f"{second},{three},{high},{text},test",
    )
    audio = [f"Raw/{first}/{one}.mp4", f"Raw/{first}/{two}.mp4", f"Raw/{second}/{three}.mp4"]
    emotions = {"negative", "neutral", "positive"}
    return Tree(audio, 2, 0, 0, emotions, {"label.csv": sentiment(*rows)}, languages=(language,))


def _mspimprov() -> Tree:
    audio, lines = [], []
    for session, code, turn in product(range(1, 7), "AX", ("FM01", "MF01")):
        name = f"IMPROV-S01A-F{session:02d}-S-{turn[:2]}{'0' if code == 'A' else '1'}1"
        audio.append(f"Audio/session{session}/S01A/S/MSP-{name}.wav")
        lines += [
            f"UTD-{name}.avi; {code}; A:2.000000; V:1.500000; D:NaN ; N:3.000000;",
            "WORKER00000001; Angry; Angry,Frustrated; A:2.0; V:1.0; D:2.0; N:3.0;",
            "WORKER00000002; Fear; Fear; A:2.0; V:2.0; D:2.0; N:3.0;",
            "",
        ]
    return Tree(audio, 6, 0, 0, {"angry", "no_agreement"}, {"Evalution.txt": "\n".join(lines)}, languages=("en",))


def _meld() -> Tree:
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    parts = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    texts = {
        f"{part}_sent_emo.csv": csv(
            header,
            '1,"Well, hi",Chandler,joy,positive,0,0,8,21,"00:16:16,059","00:16:21,731"',
            f"2,No,{part.title()} Guest,surprise,negative,0,1,8,21,0,1",
        )
        for part in parts
    }
    audio = [f"{folder}/dia0_utt{n}.mp4" for folder in parts.values() for n in (0, 1)]
    return Tree(audio, 4, 0, 0, {"joy", "surprised"}, texts, languages=("en",))


def _emorynlp() -> Tree:
    header = "Utterance,Speaker,Emotion,Scene_ID,Utterance_ID,Season,Episode,Start_Time,End_Time"
    texts = {
        f"emorynlp_{part}_final.csv": csv(
            header, "Coffee.,['Rachel Green'],Joyful,1,1,1,15,0,1", "Oh,['Ross'],Scared,1,2,1,15,0,1"
        )
        for part in ("train", "dev", "test")
    }
    audio = names("emorynlp_{0}_splits/sea1_ep15_sc1_utt{1}.mp4", "train dev test", "1 2")
    return Tree(audio, 2, 0, 0, {"joyful", "fearful"}, texts, languages=("en",))


def _emozionalmente() -> Tree:
    texts = {
        "metadata/samples.csv": csv(
            "file_name,timestamp,actor,sentence,emotion_expressed",
            "1_joy.wav,0,ann,s,joy",
            "2_n.wav,0,ben,s,neutrality",
        ),
        "metadata/users.csv": csv("username,gender,age,mother_tongue", "ann,female,30,italian", "ben,male,40,italian"),
        "metadata/evaluations.csv": csv(
            "file_name,user,emotion_recognized", "1_joy.wav,x,joy", "1_joy.wav,y,joy", "1_joy.wav,z,surprise"
        ),
    }
    return Tree(["audio/1_joy.wav", "audio/2_n.wav"], 2, 1, 1, {"joy", "neutral"}, texts, languages=("it",))


def _dusha() -> Tree:
    header = "\t".join(
        [
            "hash_id",
            "audio_path",
            "duration",
            "annotator_emo",
            "golden_emo",
            "speaker_text",
            "speaker_emo",
            "source_id",
            "annotator_id",
        ]
    )

    def rows(name: str, speaker: str, *votes: str) -> list[str]:
        return [f"{name}\twavs/{name}.wav\t2.0\t{vote}\t\ttext\tsad\t{speaker}\t{i}" for i, vote in enumerate(votes)]

    texts = {
        "crowd_train/raw_crowd_train.tsv": csv(
            header, *rows("aa", "17", "sad", "sad", "other"), *rows("bb", "18", "sad", "angry")
        ),
        "crowd_test/raw_crowd_test.tsv": csv(header, *rows("cc", "99", "positive", "positive")),
    }
    audio = ["crowd_train/wavs/aa.wav", "crowd_train/wavs/bb.wav", "crowd_test/wavs/cc.wav"]
    return Tree(audio, 3, 0, 0, {"sad", "no_agreement", "positive"}, texts, languages=("ru",))


def _m3ed() -> Tree:
    def dialog(word: str) -> dict:
        said = {"Speaker": "A", "EmoAnnotation": {"final_main_emo": word}}
        return {"SpeakerInfo": {"A": {"Name": "x", "Gender": "Female"}}, "Dialog": {f"{word}_1_1": said}}

    content = {"one": {"one_1": dialog("Happy")}, "two": {"two_1": dialog("Anger")}}
    texts = {
        "annotation.json": json.dumps(content),
        "splitInfo/movie_list_train.txt": "one\n",
        "splitInfo/movie_list_test.txt": "two\n",
    }
    audio = ["modality_speech/A_Happy_1_1.wav", "modality_speech/A_Anger_1_1.wav"]
    return Tree(audio, 2, 2, 0, {"happy", "angry"}, texts, languages=("zh",))


def _thaiser() -> Tree:
    labels = {
        "s001_con_actor001_impro1_1.flac": [{"majority_emo": "Frustrated", "assigned_emo": "Sad", "agreement": 0.8}],
        "s001_con_actor002_script1_1_1a.flac": [{"majority_emo": "None", "assigned_emo": "Sad", "agreement": 0.4}],
        "s001_con_actor002_impro2_7.flac": [{"majority_emo": "Sad", "assigned_emo": "Sad", "agreement": 1.0}],
    }
    people = {
        "data": [{"Actor's ID": "001", "Sex": "Male", "Age": 20}, {"Actor's ID": "002", "Sex": "Female", "Age": 30}]
    }
    texts = {"emotion_label.json": json.dumps(labels), "actor_demography.json": json.dumps(people)}
    audio = [f"studio1-10/studio001/con/{name}" for name in labels]
    unlisted = ["studio1-10/studio001/clip/s001_clip_actor001_impro1_1.flac"]
    return Tree([*audio, *unlisted], 2, 1, 1, {"frustrated", "no_agreement", "sad"}, texts, clips=3, languages=("th",))


def _emns() -> Tree:
    header = "id|user_id|utterance|description|audio_recording|age|gender|emotion|level"
    rows = ["1|3|Hi|happy|wavs/one.webm|20s|Female|Sarcastic|5", "2|3|Oh|sad|wavs/two.webm|20s|Female|Sad|2"]
    audio = ["cleaned_webm/one.webm", "cleaned_webm/two.webm"]
    return Tree(audio, 1, 1, 0, {"sarcastic", "sad"}, {"metadata.csv": csv(header, *rows)}, languages=("en",))


def _resd() -> Tree:
    texts = {
        "resd/train.csv": csv("name,path,emotion", "a,a.wav,happiness"),
        "resd/test.csv": csv("name,path,emotion", "b,b.wav,enthusiasm"),
    }
    return Tree(["resd/train/a.wav", "resd/test/b.wav"], 0, 0, 0, {"happy", "enthusiasm"}, texts, languages=("ru",))


def _mer2023() -> Tree:
    texts = {
        "mer2023train/train-label.csv": csv("name,discrete,valence", "sample_1,worried,-1.5", "sample_2,happy,2"),
        "test-labels/test1-label.csv": csv("name,discrete,valence", "sample_3,surprise,0.5"),
        "test-labels/test2-label.csv": csv("name,discrete", "sample_4,angry"),
    }
    films = [
        "mer2023train/train/sample_1.avi",
        "mer2023train/train/sample_2.avi",
        "test1/sample_3.mp4",
        "test2/sample_4.avi",
    ]
    return Tree(films, 0, 0, 0, {"worried", "happy", "surprised", "angry"}, texts, languages=("zh",))


_SIX = "angry fear happy neutral sad surprise"


def _emotiontalk() -> Tree:
    texts, audio = {}, []
    for who, (label, other) in enumerate((("neutral", "happy"), ("disgusted", "neutral"), ("surprise", "sad")), 1):
        name = f"G00001/G00001_01/G00001_01_0{who}/G00001_01_0{who}_001"
        audio.append(f"Audio/wav/{name}.wav")
        for modality, word in (("Text", other), ("Audio", label), ("Video", other)):
            content = {"emotion_result": word, "speaker_id": f"0{who}", "file_name": f"{name}.wav"}
            texts[f"{modality}/json/{name}.json"] = json.dumps(content)
    return Tree(audio, 3, 0, 0, {"neutral", "disgust", "surprised"}, texts, languages=("zh",))


def _textgrid(word: str) -> str:
    tiers = [("words", "some words"), ("emotion", word), ("sentence", "A sentence.")]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "item []:"]
    for number, (name, text) in enumerate(tiers, 1):
        lines += [
            f"    item [{number}]:",
            f'        name = "{name}"',
            "        intervals [1]:",
            f'            text = "{text}"',
        ]
    return "\n".join(lines)


TREES = {
    "ravdess": Tree(layouts.ravdess(), 24, 12, 12, {*SEVEN, "calm"}, languages=("en",)),
    "cremad": Tree(layouts.cremad()[:820], 10, 8, 2, SEVEN - {"surprised"}, languages=("en",)),
    "tess": Tree(layouts.tess(4), 2, 2, 0, SEVEN, languages=("en",)),
    "savee": Tree(layouts.savee(flat=False), 4, 0, 4, SEVEN, languages=("en",)),
    "emodb": Tree(layouts.emodb(), 10, 5, 5, {*SEVEN, "boredom"} - {"surprised"}, languages=("de",)),
    "emovo": Tree(
        names(
            "{1}/{0}-{1}-{2}.wav",
            "dis gio neu pau rab sor tri",
            "f1 f2 f3 m1 m2 m3",
            "b1 b2 b3 l1 l2 l3 l4 n1 n2 n3 n4 n5 d1 d2",
        ),
        6,
        3,
        3,
        SEVEN,
        languages=("it",),
    ),
    "nemo": Tree(_nemo(), 9, 4, 5, SEVEN - {"disgust"}, languages=("pl",)),
    "ased": Tree(
        names("x/{0}-01-{1}-0{2}.wav", "n1 f2 h3 s4 a5 S4", "01 02", ("1-01", "2-02", "2-39", "1-43"))[:40],
        4,
        2,
        2,
        SEVEN - {"disgust", "surprised"},
        languages=("am",),
    ),
    "esd": Tree(_esd(), 20, 10, 10, {"angry", "happy", "neutral", "sad", "surprised"}, languages=("en", "zh")),
    "jl": Tree(
        names(
            "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/{0}_{1}_{2}_{3}.wav",
            "female1 female2 male1 male2",
            "angry sad neutral happy excited anxious apologetic assertive concerned encouraging",
            "1a 10b",
            "1 2",
        ),
        4,
        2,
        2,
        {
            "angry",
            "sad",
            "neutral",
            "happy",
            "excited",
            "anxious",
            "apologetic",
            "assertive",
            "concerned",
            "encouraging",
        },
        languages=("en",),
    ),
    "emovdb": Tree(
        [
            *names("bea_{0}/{1}_1-28_{2}.wav", "Amused Angry Disgusted Neutral Sleepy", "x", "0001 0028"),
            *names("josh_{0}/{0}_141_168_{1}.wav", "Amused Neutral Sleepy", "0141"),
            "sam/Amused/amused_1-28_0003.wav",
        ],
        3,
        1,
        2,
        {"amused", "angry", "disgust", "neutral", "sleepy"},
        languages=("en",),
    ),
    "cafe": Tree(_cafe(), 12, 6, 6, SEVEN, languages=("fr",)),
    "shemo": Tree(
        names("{0}/{1}{2}{3}{4}.wav", ["female"], "F", "01 31", "A F H N S W", "01 120")
        + names("{0}/{1}{2}{3}{4}.wav", ["male"], "M", "01 56", "A H N S W", "01"),
        4,
        2,
        2,
        SEVEN - {"disgust"},
        languages=("fa",),
    ),
    "urdu": Tree(
        names("{0}/S{1}_F{2}_{3}0{2}.wav", ["x"], "M1 M2 F3", range(1, 12), "A H N S"),
        3,
        1,
        2,
        {"angry", "happy", "neutral", "sad"},
        languages=("ur",),
    ),
    "subesco": Tree(
        [
            *names(
                "{0}_{1}_OISHI_S_{2}_{3}_{4}.wav",
                "F M",
                "01 10",
                "1 10",
                "ANGRY DISGUST FEAR HAPPY NEUTRAL SAD SURPRISE",
                "1 5",
            ),
            "F_02_MONIKA_S_2_SURPRISE_3].wav",
        ],
        5,
        3,
        2,
        SEVEN,
        languages=("bn",),
    ),
    "banglaser": Tree(
        names(
            "BanglaSER/03-01-{0}-{1}-{2}-{3}-{4:02d}.wav", "01 02 03 04", "01 02", "01 02 03", "01", (1, 2, 24, 33, 34)
        )
        + names("BanglaSER/03-01-05-01-01-{0}-{1:02d}.wav", "01 02 03", (1, 2)),
        5,
        3,
        2,
        {"happy", "sad", "angry", "surprised", "neutral"},
        languages=("bn",),
    ),
    "aesdd": Tree(
        [
            *names("anger/a{0} ({1}).wav", "01 20", range(1, 7)),
            "fear/f10 (01).wav",
            "fear/f18 (5)b.wav",
            "sadness/s05 (3).wav",
        ],
        6,
        0,
        0,
        {"angry", "fearful", "sad"},
        languages=("el",),
    ),
    "oreau": Tree(_oreau(), 32, 7, 25, SEVEN, languages=("fr",)),
    "emouerj": Tree(
        names("{0}{1}{2}.wav", "m01 m02 m03 m04 w01 w02 w03 w04", "h a s n", "01 02"),
        8,
        4,
        4,
        {"happy", "angry", "sad", "neutral"},
        languages=("pt",),
    ),
    "mesd": Tree(
        names("{0}_{1}_{2}.wav", "Anger Disgust Fear Happiness Neutral Sadness", "F M C", "A_abajo B_buenos_dias"),
        0,
        0,
        0,
        SEVEN - {"surprised"},
        languages=("es",),
    ),
    "asvpesd": Tree(
        [
            "a/03-01-06-01-02-12-02-01-01-16.wav",
            "a/03-01-10-02-01-101-03-02-02.wav",
            "a/03-01-12-01-01-13-01-03.wav",
            "a/03-02-06-01-02-12-02-01-01-16.wav",
            "a/03-01-03-01-01-13-01-03.wav",
        ],
        3,
        0,
        0,
        {"fearful", "pleasure", "disappointed", "happy"},
        clips=4,
        languages=("en", "zh", None),
    ),
    "emofilm": Tree(
        [*names("{0}_{1}001{2}.wav", "f m", "ans dis gio rab tri", "en es it"), "f_ans2bit_16k.wav"],
        0,
        0,
        0,
        {"fearful", "contempt", "happy", "angry", "sad"},
        languages=("en", "es", "it"),
    ),
    "turevdb": Tree(
        names(
            "Sound Source/{0}/{1}_xx_{2}.wav", "Angry Calm Happy Sad", "1157 1234 1358 1984 6783 7895", "acik zeytin"
        ),
        6,
        0,
        0,
        {"angry", "calm", "happy", "sad"},
        languages=("tr",),
    ),
    "casia": Tree(
        names("{0}/{1}/{2}.wav", "liuchanhg wangzhe zhaoquanyin ZhaoZuoxiang", _SIX, range(201, 251)),
        4,
        0,
        0,
        SEVEN - {"disgust"},
        languages=("zh",),
    ),
    "enterface": Tree(_enterface(), 6, 0, 0, SEVEN - {"neutral"}, languages=("en",)),
    "mead": Tree(
        [
            *names(
                "{0}/audio/{1}/level_{2}/{3}.m4a",
                "M003 W009",
                "angry contempt disgusted fear happy sad surprised",
                "1 2 3",
                "001",
            ),
            "M003/audio/neutral/level_1/040.m4a",
        ],
        2,
        1,
        1,
        {*SEVEN, "contempt"},
        languages=("en",),
    ),
    "polish": Tree(
        names("{0}.{1}_{2}_{3}.wav", "m1 m2 m3 m4 m5", "a n s", "nie oddaj podaj stop tak trzymaj", range(1, 6)),
        5,
        0,
        5,
        {"angry", "neutral", "fearful"},
        languages=("pl",),
    ),
    "vivae": Tree(
        names(
            "full_set/{0}_{1}_{2}_{3}.wav",
            "S01 S11",
            "achievement anger fear pain pleasure surprise",
            "low moderate strong peak",
            "01 12",
        ),
        2,
        0,
        0,
        {"achievement", "angry", "fearful", "pain", "pleasure", "surprised"},
        languages=(None,),
    ),
    "demos": Tree(
        [
            *names("DEMOS/{0}_{1}_{2}01a.wav", "PR NP", "f_01 m_69", "col dis gio pau rab sor tri"),
            "NEU/PR_f_01_neu01a.wav",
        ],
        2,
        1,
        1,
        {*SEVEN, "guilt"},
        languages=("it",),
    ),
    "jvnv": Tree(
        names(
            "{0}/{1}/{2}/{0}_{1}_{2}_{3}.wav",
            "F1 F2 M1 M2",
            "anger disgust fear happy sad surprise",
            "free regular",
            "01",
        ),
        4,
        2,
        2,
        SEVEN - {"neutral"},
        languages=("ja",),
    ),
    "jtes": Tree(
        names("wav/{0}/{1}/{0}_{1}_{2}.wav", "f01 f50 m01", "ang joy neu sad", "01 50"),
        3,
        2,
        1,
        {"angry", "joy", "neutral", "sad"},
        languages=("ja",),
    ),
    "thorsten": Tree(
        [
            f"thorsten-emotional_v02/{w}/{'0123456789abcdef' * 2}.wav"
            for w in ["amused", "angry", "disgusted", "drunk", "neutral", "sleepy", "surprised", "whisper"]
        ],
        1,
        0,
        1,
        {"amused", "angry", "disgust", "drunk", "neutral", "sleepy", "surprised", "whisper"},
        languages=("de",),
    ),
    "castrolima": Tree(
        names("{0}{1}_{2}{3}.wav", "12s 3p", "A B", "angry disgust fear happy neutral sad surprise", "1 2"),
        2,
        0,
        0,
        SEVEN,
        languages=("pt",),
    ),
    "kannada": Tree(
        names("kannada/{0:02d}-{1:02d}-{2:02d}.wav", range(1, 14), range(1, 7), range(1, 7)),
        13,
        9,
        4,
        SEVEN - {"disgust"},
        languages=("kn",),
    ),
    "baved": Tree(
        [*names("{3}/{0}-{1}-22-{3}-{2}-7{3}.wav", "10", "m", "0 1 2", "0 6"), "0/4-F-30-0-2-12.wav"],
        2,
        1,
        1,
        {"low", "neutral", "high"},
        languages=("ar",),
    ),
    "kbes": Tree(
        names("KUET Bangla Emotional Speech (KBES) Dataset/{0}-{1}-{2}-7.wav", "1 2 3 4 5", "1 2", "0 1"),
        0,
        0,
        0,
        {"neutral", "happy", "sad", "angry", "disgust"},
        languages=("bn",),
    ),
    "indowave": Tree(
        names(
            "IndoWaveSentiment/Actor_{0:02d}/{0:02d}-{1}-{2}-{3}.wav",
            range(1, 11),
            "01 02 03 04 05",
            "01 02",
            "01 02 03",
        ),
        10,
        5,
        5,
        {"neutral", "happy", "surprised", "disgust", "disappointed"},
        languages=("id",),
    ),
    "mess": Tree(
        names("MESS/{0}{1}_{2}.wav", "A C H S", "F1 F2 M3", "01 a12"),
        3,
        2,
        1,
        {"angry", "calm", "happy", "sad"},
        languages=("en",),
    ),
    "eaed": Tree(
        [
            "EAED/series one/NellyKarim/NellyKarim_happy_ 01.wav",
            "EAED/series one/NellyKarim/NellyKarim_surprise_ 02.wav",
            "EAED/series two/AhmedEzz/AhmedEzz_angry_(3).wav",
            "EAED/series two/AhmedEzz/AhmedEzz_fearful_4.wav",
        ],
        2,
        0,
        0,
        {"happy", "surprised", "angry", "fearful"},
        languages=("ar",),
    ),
    "eseravd": Tree(
        names("E-SERAVD/02_Audio-Only/any/{1}/02-{0}-{1}-T-000{2}.wav", "01 02 03 04", "AADC D1990 TAOL", "1 2"),
        3,
        0,
        0,
        {"angry", "sad", "neutral", "happy"},
        languages=("id",),
    ),
    "emotiontalk": _emotiontalk(),
    "mlendsnd": Tree(
        ["MLEndSND_Public/00000.wav", "MLEndSND_Public/00001.wav", "MLEndSND_Public/00002.wav"],
        2,
        0,
        0,
        {"excited", "boredom", "question"},
        {
            "MLEndSND_Audio_Attributes.csv": csv(
                "Public filename,Numeral,Intonation,Speaker",
                "00000,4,excited,127",
                "00001,8,bored,85",
                "00002,8,question,85",
            )
        },
        languages=("en",),
    ),
    "ekorpus": Tree(
        ["ekorpus/1.wav", "ekorpus/2.wav"],
        1,
        1,
        0,
        {"joy", "neutral"},
        {f"ekorpus/{n}.TextGrid": _textgrid(word) for n, word in ((1, "joy"), (2, "neutral"))},
        languages=("et",),
    ),
    "mer2023": _mer2023(),
    "iemocap": _iemocap(),
    "msppodcast": _msppodcast(),
    "biicpodcast": _biicpodcast(),
    "mosei": _mosei(),
    "mosi": _sentiment("03bSnISJMiM", "2iD-tVS8NPw", "1 2 1", "-1.4 0 2.6", "", "en"),
    "sims": _sentiment("video_0001", "video_0002", "0001 0002 0001", "-0.4 0.0 1", "0.2", "zh"),
    "mspimprov": _mspimprov(),
    "meld": _meld(),
    "emorynlp": _emorynlp(),
    "emns": _emns(),
    "emozionalmente": _emozionalmente(),
    "resd": _resd(),
    "dusha": _dusha(),
    "m3ed": _m3ed(),
    "thaiser": _thaiser(),
}
