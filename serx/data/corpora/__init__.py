"""The corpora that serx knows, and how it recognizes their files.

    declaration       `Corpus`: names, codes, speakers, and what its authors state
    by_name           corpora whose file names say everything
    by_label_file     corpora with label files of their own
    readers           how those label files are read
    registry          `CORPORA`; `register_corpus` adds one
    spelling          when two spellings of a name are one
    file_names        what a file name says
    recognition       `recognize`: which file is a clip of which corpus
    speakers_by_name  who speaks in clips that a table lists without a speaker
    by_folder         recordings of no known corpus, in folders of emotions
    comparison        what is missing, compared with what the authors state
    reference         docs/corpora.md, made from the declarations

Nothing that this package itself imports is slow: `serx corpora` answers at once.
"""

from serx.data.corpora.by_label_file import NO_AGREEMENT
from serx.data.corpora.declaration import Corpus
from serx.data.corpora.registry import (
    CORPORA,
    LABEL_MAPS,
    PUBLISHED_CORPORA,
    canonical_corpus,
    known_corpus,
    known_label_map,
    register_corpus,
)
from serx.data.corpora.spelling import canonical_speaker, name_key

__all__ = [
    "CORPORA",
    "LABEL_MAPS",
    "NO_AGREEMENT",
    "PUBLISHED_CORPORA",
    "Corpus",
    "canonical_corpus",
    "canonical_speaker",
    "known_corpus",
    "known_label_map",
    "name_key",
    "register_corpus",
]
