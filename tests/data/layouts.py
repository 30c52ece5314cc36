"""Folder trees of empty files, with names and folders as the five corpora are published and as Kaggle repacks them."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

from serx.data.scanning.scanner import scan
from serx.data.utterance import Utterance
from serx.errors import DataError


def utterance_of(name: str) -> Utterance | None:
    """The utterance of a scan of a folder with one file of this name; None if it is not a known clip."""
    with TemporaryDirectory() as folder:
        try:
            return scan(touch(Path(folder), [name]), styles=("speech", "song")).utterances[0]
        except DataError:
            return None


def touch(root: Path, names: Iterable[str]) -> Path:
    """Creates empty files in `root`, with their folders; returns `root`."""
    root.mkdir(parents=True, exist_ok=True)
    folders = set()
    for name in names:
        path = root / name
        if path.parent not in folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            folders.add(path.parent)
        path.open("w").close()
    return root


def inside(folder: str, names: Iterable[str]) -> list[str]:
    return [f"{folder}/{name}" for name in names]


def ravdess(actors: Iterable[int] = range(1, 25), song: bool = False, modality: str = "03") -> list[str]:
    """60 speech clips per actor, or 44 song clips: four neutral ones, eight of each other emotion."""
    emotions = range(1, 7) if song else range(1, 9)
    return [
        f"Actor_{actor:02d}/{modality}-{1 + song:02d}-{emotion:02d}-{level:02d}-{text:02d}-{take:02d}-{actor:02d}.wav"
        for actor in actors
        for emotion, level, text, take in product(emotions, (1, 2), (1, 2), (1, 2))
        if not (emotion == 1 and level == 2)
    ]


def cremad(ending: str = "wav") -> list[str]:
    """82 clips of each of 91 actors: one sentence at three intensities, eleven at one; the corpus lacks 20 of them."""
    graded = [f"IEO_{emotion}_{level}" for emotion, level in product(("HAP", "SAD", "ANG", "FEA", "DIS"), LEVELS)]
    plain = [f"{text}_{emotion}_XX" for text, emotion in product(TEXTS, ("NEU", "HAP", "SAD", "ANG", "FEA", "DIS"))]
    clips = ["IEO_NEU_XX", *graded, *plain]
    names = [f"{speaker}_{clip}.{ending}" for speaker, clip in product(range(1001, 1092), clips)]
    return [name.replace("1040_ITH_SAD_XX", "1040_ITH_SAD_X") for name in names]


LEVELS = ("LO", "MD", "HI")
TEXTS = ("TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")


def tess(words: int = 200) -> list[str]:
    """Both speakers, seven emotions, in the folders of the published archive with their inconsistent spelling."""
    vocabulary = ["bite", *(f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(words - 1))]
    names = [
        f"{folder}/{folder[:3]}_{word}_{emotion}.wav" for folder, emotion in TESS_FOLDERS.items() for word in vocabulary
    ]
    return [name.replace("/OAF_bite_neutral", "/OA_bite_neutral") for name in names]


TESS_FOLDERS = {
    "OAF_angry": "angry",
    "OAF_disgust": "disgust",
    "OAF_Fear": "fear",
    "OAF_happy": "happy",
    "OAF_neutral": "neutral",
    "OAF_Pleasant_surprise": "ps",
    "OAF_Sad": "sad",
    "YAF_angry": "angry",
    "YAF_disgust": "disgust",
    "YAF_fear": "fear",
    "YAF_happy": "happy",
    "YAF_neutral": "neutral",
    "YAF_pleasant_surprised": "ps",
    "YAF_sad": "sad",
}


def savee(flat: bool) -> list[str]:
    """15 sentences per emotion and 30 neutral ones, in one folder per speaker, or flat with the speaker in the name."""
    clips = [
        f"{code}{n:02d}" for code in ("a", "d", "f", "h", "sa", "su", "n") for n in range(1, 16 + 15 * (code == "n"))
    ]
    join = "ALL/{}_{}.wav" if flat else "AudioData/{}/{}.wav"
    return [join.format(speaker, clip) for speaker, clip in product(("DC", "JE", "JK", "KL"), clips)]


def emodb() -> list[str]:
    """Every speaker, text and emotion once; the corpus has 535 such clips, in one folder."""
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    texts = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")
    return [f"wav/{speaker}{text}{emotion}a.wav" for speaker, text, emotion in product(speakers, texts, "WLEAFTN")]
