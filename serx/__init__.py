"""serx: train speech-emotion classifiers, evaluate them on new speakers, and use them on your own recordings.

    >>> import serx, torch
    >>> predictor = serx.Predictor.load("best.safetensors")        # doctest: +SKIP
    >>> predictor("me.wav").label                                  # doctest: +SKIP
    >>> config = serx.load_config("cnn2d", "data.root=/corpora/RAVDESS")
    >>> serx.fit(config).evaluate().uar                            # doctest: +SKIP
    >>> mel, frames = serx.features.LogMel(sample_rate=16000)(torch.zeros(2, 16000))
    >>> augment = serx.augment.Compose([serx.augment.PitchShift(p=0.4)], sample_rate=16000)

The public names:

    serx.load_config -> serx.Config      a recipe with your settings
    serx.fit -> serx.Run                 trains it
    serx.evaluate -> serx.Evaluation     scores of a checkpoint on speakers that it was not trained on
    serx.Predictor -> serx.Prediction    a trained model; what it predicts for a recording
    serx.features, serx.augment          features and augmentation for a training loop of your own
    serx.metrics, serx.testing           metrics; checks for models, features and transforms of your own
    serx.SerxError                       the errors that you can fix: one line that says what, where and how

Its modules and packages from the ground up; each imports only those above it in this list:

    terminal       printed text without control characters
    errors         the errors and their exit codes
    seeding        random numbers by key
    files          files that are replaced whole or not at all
    system         what differs between machines and operating systems
    base_config    what all settings have in common
    registries     what the registries of features, transforms and models have in common
    dsp            pure functions on (B, T) and (B, N, F): spectra, mel, pitch, resampling, vocoder, filters, noise
    plots          numbers in, figures out
    features       log-mel, MFCC, chroma ...: modules made of dsp; normalization
    speaker_model  infers a speaker's voice together with the emotions of the clips
    models         one file an architecture; registry
    metrics        UAR, intervals, calibration, confusion: arrays in, numbers out
    ood            out-of-distribution detector: is a recording unlike those of training?
    data           audio files, corpora, manifests, labels, protocols, leaks, cache, batches; synthetic, download
    augment        waveform and spectrogram transforms, and their composition
    testing        checks for models, features and transforms of your own
    recognizer     features + normalizer + model: waveform, lengths -> logits
    config         the YAML of a run: loaded, overridden, checked
    device         which device, precision and threads
    checkpoint     one safetensors file, self-describing
    inference      predictor, speaker adaptation, segmentation, streaming, export
    training       trainer, epoch, losses, sampling, optimizer, resume, TensorBoard
    evaluation     held-out evaluation, report, comparison, stress test
    pages          results as self-contained HTML pages
    run            training and evaluation as one call: `serx.fit`
    experiments    cross-validation, sweeps, and how much a leak inflates a score
    demo           a page in the browser to try a model
    cli            the command line, one module a verb
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serx import augment, features, metrics, testing
    from serx.config import Config, load_config
    from serx.errors import SerxError
    from serx.evaluation import Evaluation, evaluate
    from serx.inference import Prediction, Predictor
    from serx.run import Run, fit

__version__ = "0.1.0"
__all__ = [
    "Config",
    "Evaluation",
    "Prediction",
    "Predictor",
    "Run",
    "SerxError",
    "augment",
    "evaluate",
    "features",
    "fit",
    "load_config",
    "metrics",
    "testing",
]

# Public name -> the module that has it; imported when first used, since torch takes seconds.
_MODULES = {
    "Config": "serx.config",
    "Evaluation": "serx.evaluation",
    "Prediction": "serx.inference",
    "Predictor": "serx.inference",
    "Run": "serx.run",
    "SerxError": "serx.errors",
    "evaluate": "serx.evaluation",
    "fit": "serx.run",
    "load_config": "serx.config",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name in __all__:
        return import_module(f"serx.{name}")
    raise AttributeError(f"module 'serx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
