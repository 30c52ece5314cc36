"""Everything between files on disk and batches of waveforms: find, label, decode, split, and check for leaks.

The way of a clip, and the modules in the order in which they build on each other:

    observed_files       files and folders, looked at so that it is known what was seen
    utterance            `Utterance`: one clip, its speaker and its emotion; `Segment`: the part of a file that it is
    utterances           many clips as columns
    audio_config         `AudioConfig`: how a file becomes a waveform
    audio_error          `AudioError`: a file that cannot be used, with a reason
    audio_paths          which files are audio by their endings, and all those of a folder
    damage               whether a file is cut off or damaged, by what its container says
    ffmpeg               reads what libsndfile does not: AAC, AMR, WMA, videos
    sound_file           opens a file by either library and reads its samples
    levels               what is too loud, silent or not a number, and a constant offset
    channels             several channels become one
    resampling           sample rates
    trimming             silence cut off both ends
    clip                 decoded samples, checked, resampled and trimmed
    audio                `read_audio`, `decode`: all of these for one file
    segments             the same for parts of a long one
    mp3                  an MP3 of a waveform, for pages
    ratings              numbers for dimensions such as arousal
    labels               emotion words and class numbers; `register_emotion`
    corpora/             how corpora name and list their clips; `register_corpus`
    names                which names are one speaker or one corpus
    languages            names and codes of languages
    columns              which column of a table means what
    table                `Table`: rows of text, however they are stored
    text_tables          CSV, whatever its encoding and separator, and JSON
    arrow_tables         Parquet and Arrow, with the audio inside
    tables               the tables of a file or of the folder of a Hugging Face dataset
    audformat            tables of audEERING databases
    cells                what single cells of a table say
    audio_finder         the file that a cell names
    contradictions       rows that say different things about a file or a speaker
    manifest             your own recordings, listed in a table
    scanner              `scan`: from folders and manifests to utterances
    file_state           what changes when the content of a file changes
    stored_scan          a scan as bytes
    scan_snapshot        a scan, kept for the next start
    protocol_config      the settings of a split
    published_folds      who tests and validates in published folds
    speaker_choice       who tests and who validates
    clip_draw            a random part of the clips
    protocols            `make_split`: which clips train, validate and test
    copies               which clips hold the same recording, however it was altered: by
    copy_candidates      pairs of clips with similar spectrograms, and by the
    whitened_correlation of their waveforms
    leaks                no speaker and no copy of a clip in two parts
    audio_shards         the flat files, and their indexes, of an
    audio_cache          clips decoded once
    clip_reader          reads clips from the files of the cache
    batches              batches of waveforms, from the cache
    read_ahead           reads the next batches while the device computes
    copy_search          the search for copies among decoded clips, with its results stored
    duplicates           a dataset without what a corpus holds twice
    dataset_notes        what a user is told about the clips of a dataset
    dataset              `load_dataset` and `split_dataset`: all of the above in two calls
    overlap              `find_overlap`: which clips were in the training of a checkpoint
    audit                `audit_dataset`: what a corpus holds, and what would mislead

    synthetic/           a synthetic corpus for demos and tests
    download/            the published corpora that can be downloaded

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
    from serx.data.audio import read_audio
    from serx.data.audio_cache import AudioCache, open_audio_cache
    from serx.data.audio_config import AudioConfig
    from serx.data.audio_error import AudioError
    from serx.data.audio_paths import audio_files
    from serx.data.audit import Audit, audit_dataset
    from serx.data.batches import BatchSource, make_batch_source
    from serx.data.corpora import register_corpus
    from serx.data.dataset import DataConfig, Dataset, load_dataset, split_dataset
    from serx.data.labels import register_emotion
    from serx.data.manifest import Manifest, read_manifest
    from serx.data.protocol_config import ProtocolConfig
    from serx.data.protocols import Split, fold_count, make_split
    from serx.data.scanner import Scan, scan
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
    "AudioCache": "serx.data.audio_cache",
    "AudioConfig": "serx.data.audio_config",
    "AudioError": "serx.data.audio_error",
    "Audit": "serx.data.audit",
    "BatchSource": "serx.data.batches",
    "DataConfig": "serx.data.dataset",
    "Dataset": "serx.data.dataset",
    "Manifest": "serx.data.manifest",
    "ProtocolConfig": "serx.data.protocol_config",
    "Scan": "serx.data.scanner",
    "SkippedFile": "serx.data.utterance",
    "Split": "serx.data.protocols",
    "Utterance": "serx.data.utterance",
    "Utterances": "serx.data.utterances",
    "audio_files": "serx.data.audio_paths",
    "audit_dataset": "serx.data.audit",
    "fold_count": "serx.data.protocols",
    "load_dataset": "serx.data.dataset",
    "make_batch_source": "serx.data.batches",
    "make_split": "serx.data.protocols",
    "open_audio_cache": "serx.data.audio_cache",
    "read_audio": "serx.data.audio",
    "read_manifest": "serx.data.manifest",
    "register_corpus": "serx.data.corpora",
    "register_emotion": "serx.data.labels",
    "scan": "serx.data.scanner",
    "split_dataset": "serx.data.dataset",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'serx.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
