"""Readers of corpora with label files of their own, and of the votes that CREMA-D keeps beside its audio.

A reader finds the audio of each label by its file name below the corpus's folder. What it cannot read raises a
`DataError` that names the file, what is wrong and what to do.

    label_file     `Label`, `Reader`, and how rows, objects and words are read
    iemocap        IEMOCAP
    msp            MSP-Podcast, BIIC-Podcast, MSP-IMPROV
    raters         CMU-MOSEI, Dusha, CREMA-D
    sentiment      CMU-MOSI, CMU-MOSEI and CH-SIMS, with sentiment only
    series         MELD, EmoryNLP, M3ED
    tables         EMNS, Emozionalmente, RESD, MER 2023, MLEnd, THAI SER
    transcripts    ESD, EmotionTalk, EEKK
"""

import re

from serx.data.corpora.readers.iemocap import iemocap
from serx.data.corpora.readers.label_file import Label, Reader
from serx.data.corpora.readers.msp import BIIC_CLIP, PODCAST_CLIP, biicpodcast, mspimprov, msppodcast
from serx.data.corpora.readers.raters import VOTE_TABLES, cremad_votes, dusha
from serx.data.corpora.readers.sentiment import mosei_or_sentiment, mosi, sims
from serx.data.corpora.readers.series import emorynlp, m3ed, meld
from serx.data.corpora.readers.tables import emns, emozionalmente, mer2023, mlendsnd, resd, thaiser
from serx.data.corpora.readers.transcripts import ekorpus, emotiontalk, esd

__all__ = ["READERS", "VOTE_TABLES", "Label", "Reader", "cremad_votes"]


def _end(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|/)(?:{text})$", re.IGNORECASE | re.ASCII)


_PODCAST_FILES = r"(?:Labels?/)?labels_con[sc]ensus\.(?:csv|json)|Labels?/labels\.txt"

_SENTIMENT_FILES = r"(?:label|meta)\.csv"

READERS = {
    "iemocap": Reader(
        _end(r"Session[1-5]/dialog/EmoEvaluation/Ses0[1-5][FM]_[^/]+\.txt|[^/]*iemocap[^/]*\.csv"),
        iemocap,
        re.compile(r"Ses0[1-5][FM]_(?:impro|script)\w+_[FM][\dX]+"),
    ),
    "msppodcast": Reader(_end(_PODCAST_FILES), msppodcast, PODCAST_CLIP),
    "biicpodcast": Reader(_end(_PODCAST_FILES), biicpodcast, BIIC_CLIP),
    "mosei": Reader(_end(rf"Labels/[^/]+\.csv|{_SENTIMENT_FILES}"), mosei_or_sentiment),
    "mosi": Reader(_end(_SENTIMENT_FILES), mosi),
    "sims": Reader(_end(_SENTIMENT_FILES), sims),
    "mspimprov": Reader(_end(r"Evalu(?:a)?tion\.txt"), mspimprov, re.compile(r"MSP-IMPROV-S[\w-]+")),
    "meld": Reader(_end(r"(?:train/|dev/|test/)?(?:train|dev|test)_sent_emo\.csv"), meld, re.compile(r"dia\d+_utt\d+")),
    "emorynlp": Reader(
        _end(r"emorynlp_(?:train|dev|test)_final\.csv"), emorynlp, re.compile(r"sea\d+_ep\d+_sc\d+_utt\d+")
    ),
    "emns": Reader(_end(r"metadata\.csv"), emns),
    "emozionalmente": Reader(_end(r"(?:metadata/)?samples\.csv"), emozionalmente),
    "resd": Reader(_end(r"(?:train|test)\.csv"), resd),
    "dusha": Reader(
        _end(
            r"(?:(?:crowd|podcast)_(?:train|test)/raw_|processed_dataset_\d+/aggregated_dataset/)"
            r"(?:crowd|podcast)_(?:train|test)\.(?:tsv|jsonl)"
        ),
        dusha,
    ),
    "esd": Reader(_end(r"00[0-2][0-9]/00[0-2][0-9]\.txt"), esd, fallback=True),
    "emotiontalk": Reader(
        _end(r"(?:Audio|Text|Video|Multimodal)/json/(?:[^/]+/)*G\d+(?:_\d+)+\.json"),
        emotiontalk,
        re.compile(r"G\d{5}(?:_\d+){3}"),
    ),
    "mlendsnd": Reader(_end(r"MLEndSND_Audio_Attributes\.csv"), mlendsnd),
    "ekorpus": Reader(_end(r"[^/]+\.TextGrid"), ekorpus),
    "mer2023": Reader(_end(r"(?:mer2023train/train|test-labels/test[123])-label\.csv"), mer2023),
    "m3ed": Reader(_end(r"annotation\.json"), m3ed),
    "thaiser": Reader(_end(r"emotion_label\.json"), thaiser, re.compile(r"[sz]\d{3}_[a-z]+_actor\d{3}_\w+")),
}
