"""The other tools by name: what they do of a stage, and how to get those that are not installed."""

from collections.abc import Callable

from . import clip_works, librosa_works, torch_works
from .given import Given
from .timing import Work

# Name in the report -> its works, and its name on PyPI.
PEERS: dict[str, tuple[Callable[[Given], dict[str, Work]], str]] = {
    "librosa": (librosa_works.works, "librosa"),
    "torchaudio": (torch_works.torchaudio, "torchaudio"),
    "nnAudio": (torch_works.nnaudio, "nnAudio"),
    "audiomentations": (clip_works.audiomentations, "audiomentations"),
    "torch-audiomentations": (torch_works.torch_audiomentations, "torch-audiomentations"),
    "torch-time-stretch": (torch_works.torch_time_stretch, "torch-time-stretch"),
    "Signalsmith": (clip_works.signalsmith, "python-stretch"),
}


def peer_works(given: Given) -> tuple[dict[str, dict[str, Work]], dict[str, str]]:
    """Peer -> stage -> work of those that are there; and why each of the others is not."""
    found, absent = {}, {}
    for peer, (works, package) in PEERS.items():
        try:
            found[peer] = works(given)
        except ImportError as error:
            absent[peer] = f"{error}; pip install {package}, or all of them: pip install -e '.[benchmark]'"
    return found, absent
