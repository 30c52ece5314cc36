"""The published folds of RAVDESS and IEMOCAP: which speakers test and validate in each."""

# Speakers of each fold, written as test: validation.
PUBLISHED = {
    # Luna-Jimenez et al. 2021, "A Proposal for Multimodal Emotion Recognition Using Aural Transformers and Action
    # Units on RAVDESS Dataset", Applied Sciences 12(1) 327: subject-wise five-fold cross-validation.
    "luna5": "02 05 14 15 16: 03 06 | 03 06 07 13 18: 10 11 | 10 11 12 19 20: 08 17 | 08 17 21 23 24: 01 14 "
    "| 01 04 09 22: 02 05",
    # Ma et al. 2024, "EmoBox: Multilingual Multi-corpus Speech Emotion Recognition Toolkit and Benchmark". It names no
    # validation actors: here they are the first man and the first woman of the following folds.
    "emobox6": "01 11 20 21: 04 09 | 04 10 12 14: 08 09 | 08 09 19 23: 03 24 | 03 05 07 24: 02 15 "
    "| 02 15 16 18: 06 13 | 06 13 17 22: 01 20",
    # IEMOCAP is tested one session, that is one pair of speakers, at a time. Papers do not agree on validation: here
    # the next session validates.
    "iemocap5": "01F 01M: 02F 02M | 02F 02M: 03F 03M | 03F 03M: 04F 04M | 04F 04M: 05F 05M | 05F 05M: 01F 01M",
}
FOLDS_OF = {"luna5": "ravdess", "emobox6": "ravdess", "iemocap5": "iemocap"}


def published_speakers(protocol: str) -> list[str]:
    """The speakers of a protocol with published folds, sorted.

    >>> published_speakers("iemocap5")[:3]
    ['01F', '01M', '02F']
    """
    return sorted({name for fold in PUBLISHED[protocol].split("|") for name in fold.split(":")[0].split()})
