"""`speakers_by_name`: who speaks in clips that a table lists without a speaker, where a known corpus named the files.

Copies of corpora at Hugging Face or Kaggle often keep the files' names and the emotions, and leave out the speakers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from serx.data.corpora.declaration import Corpus
from serx.data.corpora.file_names import parse_names
from serx.data.corpora.readers.iemocap import speaker_of_turn
from serx.data.corpora.registry import CORPORA
from serx.data.utterance import Utterance


def speakers_by_name(clips: Sequence[Utterance]) -> tuple[tuple[Utterance, ...], str]:
    """The clips with the corpus, speakers, sexes and language that their files' names say, and the corpus's name.

    The clips as they are, and no name, unless all names are those of one corpus and say the same emotion, and sex, as
    the table does.

    Args:
        clips: without speakers.

    >>> from pathlib import Path
    >>> clip = Utterance(Path("/data/03-01-05-01-01-01-07.wav"), "own", "unknown", "angry", speaker_known=False)
    >>> [found], corpus = speakers_by_name([replace(clip, corpus_named=False)])
    >>> found.speaker_id, found.sex, corpus
    ('ravdess/07', 'male', 'ravdess')
    """
    if not clips or any(clip.speaker_known or not clip.is_whole_file for clip in clips):
        return tuple(clips), ""
    found = {name: list[Utterance]() for name in _described(clips[0], CORPORA.values())}
    for clip in clips:
        described = _described(clip, [CORPORA[name] for name in found])
        found = {name: found[name] for name in described}
        for name, named in described.items():
            found[name].append(named)
        if not found:
            return tuple(clips), ""
    rank, best = min((CORPORA[name].rank, name) for name in found)
    if [CORPORA[name].rank for name in found].count(rank) > 1:
        return tuple(clips), ""
    return tuple(found[best]), best


def _described(clip: Utterance, corpora: Iterable[Corpus]) -> dict[str, Utterance]:
    """Corpus -> the clip as its file's name describes it, for each corpus whose name does not contradict the table."""
    asked = [corpus for corpus in corpora if corpus.speakers_known and not corpus.needs_folder]
    named = [parsed.utterance for parsed in parse_names(clip.path, asked)]
    if CORPORA["iemocap"] in asked and (speaker := speaker_of_turn(clip.path.stem)):
        sex = (CORPORA["iemocap"].speakers or {}).get(speaker)
        named.append(Utterance(clip.path, "iemocap", speaker, "", sex=sex, language="en"))
    found = {}
    for other in named:
        corpus = CORPORA[other.corpus]
        emotion = corpus.emotions.get(clip.emotion, clip.emotion)
        possible = {other.emotion} if other.emotion else set(corpus.emotions.values())
        agrees = not emotion or emotion in possible  # a clip may have ratings only
        agrees &= clip.sex is None or other.sex is None or clip.sex == other.sex
        if agrees and (not clip.corpus_named or clip.corpus == other.corpus):
            found[other.corpus] = replace(
                clip,
                corpus=other.corpus,
                speaker=other.speaker,
                speaker_known=True,
                emotion=emotion,
                sex=clip.sex or other.sex,
                language=clip.language or other.language,
                statement=other.statement,
                intensity=clip.intensity or other.intensity,
            )
    return found
