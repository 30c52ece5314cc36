"""The libraries that serx is compared with, each used as its users would."""

from collections.abc import Callable

from .batch_libraries import with_nnaudio, with_torch_audiomentations, with_torch_time_stretch, with_torchaudio
from .clip_libraries import with_audiomentations, with_librosa, with_numpy, with_signalsmith, with_soundfile
from .inputs import Inputs
from .timing import Workload

# Name in the report -> its workloads, and its name on PyPI.
LIBRARIES: dict[str, tuple[Callable[[Inputs], dict[str, Workload]], str]] = {
    "librosa": (with_librosa, "librosa"),
    "soundfile": (with_soundfile, "soundfile"),
    "NumPy": (with_numpy, "numpy"),
    "torchaudio": (with_torchaudio, "torchaudio"),
    "nnAudio": (with_nnaudio, "nnAudio"),
    "audiomentations": (with_audiomentations, "audiomentations"),
    "torch-audiomentations": (with_torch_audiomentations, "torch-audiomentations"),
    "torch-time-stretch": (with_torch_time_stretch, "torch-time-stretch"),
    "Signalsmith": (with_signalsmith, "python-stretch"),
}


def installed(inputs: Inputs) -> tuple[dict[str, dict[str, Workload]], dict[str, str]]:
    """Library -> stage -> workload for the installed libraries, and for each of the others how to install it."""
    workloads, absent = {}, {}
    for library, (make, package) in LIBRARIES.items():
        try:
            workloads[library] = make(inputs)
        except ImportError as error:
            absent[library] = f"{error}; pip install {package}, or all of them: pip install -e '.[benchmark]'"
    return workloads, absent
