"""serx: train speech-emotion classifiers, evaluate them on speakers they never met, and use them on your own recordings.

The package from the ground up; each room imports only rooms above it in this list:

    errors, seeding, files, system, base_config    exit codes, keyed randomness, atomic files, machines, settings
    dsp            pure functions on (B, T) and (B, N, F): spectra, mel, pitch, resampling, vocoder, filters, noise
    plots          numbers in, figures out
    features       log-mel, MFCC, chroma ...: modules made of dsp; normalizer
    augment        waveform and spectrogram transforms, and their composition
    models         one file an architecture; registry
    testing        checks for models, features and transforms of your own
    metrics        UAR, intervals, calibration, confusion: arrays in, numbers out
    ood            out-of-distribution detector: is a recording unlike those of training?
    data           audio files, corpora, manifests, labels, protocols, leaks, cache, batches; synthetic, download
    recognizer     features + normalizer + model: waveform, lengths -> logits
    config         the YAML of a run: loaded, overridden, checked
    device         which device, precision and threads
    checkpoint     one safetensors file, self-describing
    inference      predictor, speaker adaptation, segmentation, streaming, export
    training       trainer, epoch, losses, sampling, optimizer, resume, TensorBoard
    evaluation     held-out evaluation, report, comparison, stress test
    experiments    cross-validation, sweeps, leakage lesson
    cli            one module a verb
"""

__version__ = "0.1.0"
