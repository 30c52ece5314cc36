"""The folds that papers have published, by the numbers of RAVDESS's actors."""

# RAVDESS actors of each fold, as test: validation.
PUBLISHED = {
    # Luna-Jimenez et al. 2021, "A Proposal for Multimodal Emotion Recognition Using Aural Transformers and Action
    # Units on RAVDESS Dataset", Applied Sciences 12(1) 327: subject-wise five-fold cross-validation.
    "luna5": "02 05 14 15 16: 03 06 | 03 06 07 13 18: 10 11 | 10 11 12 19 20: 08 17 | 08 17 21 23 24: 01 14 "
    "| 01 04 09 22: 02 05",
    # Ma et al. 2024, "EmoBox: Multilingual Multi-corpus Speech Emotion Recognition Toolkit and Benchmark". It names no
    # validation actors: here they are the first man and the first woman met in the folds that follow.
    "emobox6": "01 11 20 21: 04 09 | 04 10 12 14: 08 09 | 08 09 19 23: 03 24 | 03 05 07 24: 02 15 "
    "| 02 15 16 18: 06 13 | 06 13 17 22: 01 20",
}
ACTORS = [f"{actor:02d}" for actor in range(1, 25)]
