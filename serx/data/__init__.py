"""Everything between files on disk and batches of waveforms: find, label, decode, split, and check for leaks.

The parts, along the way of a clip:

    observed_files  files and folders, looked at so that it is known what was seen
    file_state      what changes when the content of a file changes
    utterance       `Utterance`: one clip, its speaker and its emotion; `Segment`: the part of a file that it is
    utterances      many clips as columns
    audio/          from a file to samples, or an error with a reason
    cache/          clips decoded once
    ratings         numbers for dimensions such as arousal
    labels          emotion words and class numbers; `register_emotion`
    languages       names and codes of languages
    corpora/        how corpora name and list their clips; `register_corpus`
    names           which names are one speaker or one corpus
    tables/         your own recordings, listed in a table
    scanning/       from folders and tables to a list of clips
    copies/         which clips hold the same recording, however it was altered
    splits/         which clips train, validate and test, and that these parts share nothing
    batches         batches of waveforms, from the cache
    read_ahead      reads the next batches while the device computes
    dataset_notes   what a user is told about the clips of a dataset
    dataset         `load_dataset` and `split_dataset`: all of the above in two calls
    overlap         `find_overlap`: which clips were in the training of a checkpoint
    audit           `audit_dataset`: what a corpus holds, and what would mislead
    synthetic/      a synthetic corpus for demos and tests
    download/       the published corpora that can be downloaded

A corpus of your own, in your own module (`serx train --import my_corpora ...`):

>>> from serx.data import register_corpus, register_emotion
>>> register_emotion("contempt", spellings=["con"])
>>> register_corpus(
...     "callcenter",
...     pattern=r"(?P<speaker>agent[0-9]+)-(?P<emotion>con|neu|ang)-(?P<take>[0-9]+)",
...     emotions={"con": "contempt", "neu": "neutral", "ang": "angry"},
...     example="agent7-ang-012.wav",
... )
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serx.data.audio.config import AudioConfig
    from serx.data.audio.decoding import read_audio
    from serx.data.audio.error import AudioError
    from serx.data.audio.paths import audio_files
    from serx.data.audit import Audit, audit_dataset
    from serx.data.batches import BatchSource, make_batch_source
    from serx.data.cache.audio_cache import AudioCache, open_audio_cache
    from serx.data.corpora import register_corpus
    from serx.data.dataset import DataConfig, Dataset, load_dataset, split_dataset
    from serx.data.labels import register_emotion
    from serx.data.scanning.scanner import Scan, scan
    from serx.data.splits.protocol_config import ProtocolConfig
    from serx.data.splits.protocols import Split, fold_count, make_split
    from serx.data.tables.manifest import Manifest, read_manifest
    from serx.data.utterance import SkippedFile, Utterance
    from serx.data.utterances import Utterances

__all__ = [
    "AudioCache",
    "AudioConfig",
    "AudioError",
    "Audit",
    "BatchSource",
    "DataConfig",
    "Dataset",
    "Manifest",
    "ProtocolConfig",
    "Scan",
    "SkippedFile",
    "Split",
    "Utterance",
    "Utterances",
    "audio_files",
    "audit_dataset",
    "fold_count",
    "load_dataset",
    "make_batch_source",
    "make_split",
    "open_audio_cache",
    "read_audio",
    "read_manifest",
    "register_corpus",
    "register_emotion",
    "scan",
    "split_dataset",
]

# Public name -> the module that has it; imported when first used: some need torch, which takes seconds.
_MODULES = {
    "AudioCache": "serx.data.cache.audio_cache",
    "AudioConfig": "serx.data.audio.config",
    "AudioError": "serx.data.audio.error",
    "Audit": "serx.data.audit",
    "BatchSource": "serx.data.batches",
    "DataConfig": "serx.data.dataset",
    "Dataset": "serx.data.dataset",
    "Manifest": "serx.data.tables.manifest",
    "ProtocolConfig": "serx.data.splits.protocol_config",
    "Scan": "serx.data.scanning.scanner",
    "SkippedFile": "serx.data.utterance",
    "Split": "serx.data.splits.protocols",
    "Utterance": "serx.data.utterance",
    "Utterances": "serx.data.utterances",
    "audio_files": "serx.data.audio.paths",
    "audit_dataset": "serx.data.audit",
    "fold_count": "serx.data.splits.protocols",
    "load_dataset": "serx.data.dataset",
    "make_batch_source": "serx.data.batches",
    "make_split": "serx.data.splits.protocols",
    "open_audio_cache": "serx.data.cache.audio_cache",
    "read_audio": "serx.data.audio.decoding",
    "read_manifest": "serx.data.tables.manifest",
    "register_corpus": "serx.data.corpora",
    "register_emotion": "serx.data.labels",
    "scan": "serx.data.scanning.scanner",
    "split_dataset": "serx.data.dataset",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'serx.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
