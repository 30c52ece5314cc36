"""serx: train speech-emotion classifiers honestly, fast, and all the way to predictions on one's own recordings.

The package in the order of its dependencies:

    errors, section, files, seeding, yaml_lines     small things that know nothing of each other
    data         audio files -> utterances -> one packed corpus, split by speaker
    transforms   batched DSP, features, normalisation, augmentation
    models       1-D and 2-D CNNs, timm backbones, speech encoders: features -> logits
    recognizer   features + normaliser + backbone: waveform -> logits
    config       every section of a run's YAML, checked
    training     the loop, the optimizer, checkpoints, TensorBoard
    inference    a checkpoint -> emotions of audio files, of a voice it was made to know
    evaluation   scores, intervals over speakers, reports, folds taken together, runs compared
    experiments  many runs that answer one question: cross-validation, the leakage lesson
"""

__version__ = "0.1.0"
