"""serx: train speech-emotion classifiers honestly, fast, and all the way to predictions on one's own recordings.

The package in the order of its dependencies:

    errors, section, files, seeding, yaml_lines, commands     small things; the last two know errors
    transforms   batched DSP, features, normalisation, augmentation
    data         audio files -> utterances -> one packed corpus, split by speaker
    models       1-D and 2-D CNNs, timm backbones, speech encoders: features -> logits
    recognizer   features + normaliser + backbone: waveform -> logits
    settings     two sections of the YAML, of training alone
    config       every section of a run's YAML, checked
    scoring      probabilities of clips, what they are worth, and pictures of it: for validation and test alike
    training     the loop, the optimizer, checkpoints, TensorBoard
    inference    a checkpoint -> emotions of audio files, of running speech, of a voice it was made to know; ONNX
    evaluation   test speakers, intervals over them, reports, stress, folds taken together, runs compared and ranked
    experiments  many runs that answer one question: cross-validation, a sweep of settings, the leakage lesson
"""

__version__ = "0.1.0"
