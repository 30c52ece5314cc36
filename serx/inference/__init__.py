"""From a checkpoint to predictions: of files, arrays, running speech, a microphone, and in other programs.

predictor.py      the Predictor
loading.py        checkpoint -> recognizer, configuration, out-of-distribution detector
prediction.py     what it predicts: the emotion of a clip, a segment or a recording
recordings.py     files, samples and blocks, prepared for its model
samples.py        arrays and tensors of samples to mono float32
published.py      emotion models of the Hugging Face hub as recognizers
default_model.py  the model that ships with serx
adaptation.py     adapt a recognizer to one speaker with unlabeled clips
segmentation.py   cut running speech at its pauses (voice activity detection)
streaming.py      blocks of samples from another program or a microphone
export.py         one ONNX file, waveform -> probabilities
attribution.py    how much each part of a clip raises the probability of an emotion
explanation.py    which moments and frequencies a prediction rests on, as files and a picture
classify.py       probabilities of many clips in batches, for validation and evaluation
"""

from serx.inference.adaptation import adapted
from serx.inference.default_model import default_checkpoint
from serx.inference.explanation import Explanation
from serx.inference.export import ExportResult, export_onnx
from serx.inference.prediction import PredictedSegment, Prediction
from serx.inference.predictor import Predictor
from serx.inference.segmentation import Segment, SpeechSegmenter, speech_segments
from serx.inference.streaming import microphone_blocks, pcm_blocks

__all__ = [
    "Explanation",
    "ExportResult",
    "PredictedSegment",
    "Prediction",
    "Predictor",
    "Segment",
    "SpeechSegmenter",
    "adapted",
    "default_checkpoint",
    "export_onnx",
    "microphone_blocks",
    "pcm_blocks",
    "speech_segments",
]
