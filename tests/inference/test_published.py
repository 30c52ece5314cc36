"""Emotion models of the hub: tiny replicas of their layouts predict as transformers does, and others are refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from serx.data import dataset as dataset_module
from serx.errors import ConfigError
from serx.evaluation import evaluate
from serx.inference.predictor import Predictor
from serx.models.encoders.wav2vec2 import standardize
from tests.conftest import randomize, speechlike, tiny_encoder
from tests.models.encoders.test_loading import COMMIT, cache_repository, hub  # noqa: F401 (a fixture)
from tests.test_cli import run_here

RATE = 16_000
SUPERB = {0: "neu", 1: "hap", 2: "ang", 3: "sad"}
EIGHT = dict(enumerate(("angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised")))


def save(model: torch.nn.Module, folder: Path) -> Path:
    torch.manual_seed(1)
    randomize(model).save_pretrained(folder)
    if isinstance(model, transformers.WhisperPreTrainedModel):
        transformers.WhisperFeatureExtractor(feature_size=80, chunk_length=1).save_pretrained(folder)
    else:
        transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def config_of(kind: str, labels: dict[int, str], **settings) -> transformers.PretrainedConfig:
    config = tiny_encoder(kind).config
    config.update({"id2label": labels, "label2id": {v: k for k, v in labels.items()}, **settings})
    config.num_labels = len(labels)
    config.id2label = labels
    return config


class CustomHead(torch.nn.Module):
    """ehcalabres/wav2vec2-lg-xlsr-en-speech-emotion-recognition: its author's class, not transformers'."""

    def __init__(self, width: int, classes: int, last: str) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(width, width)
        self.last = last
        self.add_module(last, torch.nn.Linear(width, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, self.last)(torch.tanh(self.dense(x)))


class CustomModel(transformers.Wav2Vec2PreTrainedModel):
    def __init__(self, config, last: str = "output") -> None:
        super().__init__(config)
        self.wav2vec2 = transformers.Wav2Vec2Model(config)
        self.classifier = CustomHead(config.hidden_size, config.num_labels, last)
        self.post_init()

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.wav2vec2(waveform).last_hidden_state.mean(1))


LAYOUTS = {
    "superb/wav2vec2-base-superb-er": lambda: transformers.Wav2Vec2ForSequenceClassification(
        config_of("wav2vec2", SUPERB, use_weighted_layer_sum=True, classifier_proj_size=6)
    ),
    "superb/hubert-base-superb-er": lambda: transformers.HubertForSequenceClassification(
        config_of("hubert", SUPERB, use_weighted_layer_sum=True, classifier_proj_size=6)
    ),
    "Dpngtm/wav2vec2-emotion-recognition": lambda: transformers.Wav2Vec2ForSequenceClassification(
        config_of("wav2vec2", EIGHT, classifier_proj_size=6)
    ),
    "wavlm": lambda: transformers.WavLMForSequenceClassification(config_of("wavlm", SUPERB, classifier_proj_size=6)),
    "ehcalabres": lambda: CustomModel(config_of("xls-r", EIGHT)),
    "with out_proj": lambda: CustomModel(config_of("xls-r", EIGHT, pooling_mode="mean"), "out_proj"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.inference_mode()
def test_a_published_model_predicts_what_its_own_class_predicts(layout, tmp_path):
    model = LAYOUTS[layout]()
    predictor = Predictor.load(save(model, tmp_path), "cpu")
    clips = [speechlike(seconds, pitch, 3) for seconds, pitch in ((0.4, 120), (0.9, 210))]
    for clip in clips:
        waveform = torch.from_numpy(clip)[None]
        output = model.eval()(standardize(waveform, torch.tensor([len(clip)])))
        logits = output if isinstance(output, torch.Tensor) else output.logits
        expected = logits.softmax(-1)[0].numpy()
        assert np.abs(np.array([*predictor(clip, RATE).probabilities.values()]) - expected).max() < 1e-5
    together = predictor.predict_clips(clips)
    for clip, prediction in zip(clips, together, strict=True):
        assert prediction.probabilities == pytest.approx(predictor(clip, RATE).probabilities, abs=1e-5)
    words = model.config.id2label.values()
    known = {"neu": "neutral", "hap": "happy", "ang": "angry"}
    assert predictor.labels == tuple(known.get(word, word) for word in words)


@torch.inference_mode()
def test_a_whisper_classifier_averages_its_whole_window(tmp_path):
    config = config_of("whisper", EIGHT, classifier_proj_size=6, use_weighted_layer_sum=True)
    model = transformers.WhisperForAudioClassification(config)
    predictor = Predictor.load(save(model, tmp_path), "cpu")
    clip = speechlike(0.6, 150, 4)
    mel = transformers.WhisperFeatureExtractor.from_pretrained(tmp_path)(clip, sampling_rate=RATE, return_tensors="pt")
    expected = model.eval()(mel.input_features).logits.softmax(-1)[0].numpy()
    assert np.abs(np.array([*predictor(clip, RATE).probabilities.values()]) - expected).max() < 1e-5


@pytest.fixture
def superb(tmp_path) -> Path:
    return save(LAYOUTS["superb/wav2vec2-base-superb-er"](), tmp_path / "superb")


def refusal(path: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        Predictor.load(path, "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewrite(folder: Path, change) -> None:
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def set_settings(folder: Path, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_a_model_opens_by_its_id_and_revision_from_the_cache_of_the_hub(hub, superb):  # noqa: F811
    cache_repository(hub, superb)
    for name in ("someone/encoder", "someone/encoder@main", f"someone/encoder@{COMMIT}"):
        predictor = Predictor.load(name, "cpu")
        assert predictor.config.model.revision == COMMIT
        assert predictor.labels == ("neutral", "happy", "angry", "sad")
    assert "at revision v9" in refusal("someone/encoder@v9")
    assert "cannot be reached" in refusal("someone/other")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: {n: x for n, x in t.items() if n != "classifier.weight"}, "no emotion head that serx can read"),
        (lambda t: {n: x for n, x in t.items() if n != "layer_weights"}, "no emotion head that serx can read"),
        (lambda t: {**t, "attention.weight": torch.zeros(2)}, "attention.weight"),
        (lambda t: {n: x for n, x in t.items() if n.startswith("wav2vec2.")}, "nothing but the encoder"),
        (lambda t: {**t, "classifier.weight": torch.zeros(3, 6)}, "output.weight of its head is (3, 6)"),
        (lambda t: {**t, "classifier.bias": torch.full((4,), float("inf"))}, "NaN or infinity"),
    ],
)
def test_a_head_that_is_not_whole_is_refused(change, fault, superb):
    rewrite(superb, change)
    assert fault in refusal(superb)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, "have no names"),
        ({"id2label": None}, "names no emotions"),
        ({"id2label": {"0": "arousal", "1": "dominance", "2": "valence"}}, "of its head is (4, 6)"),
        ({"id2label": {"0": "arousal", "1": "sad"}}, "predicts dimensions and something else (arousal, sad)"),
        ({"id2label": {"0": "Arousal", "1": "arousal"}}, "two of its dimensions have one name"),
        ({"id2label": {"0": "LABEL_0"}, "problem_type": "regression"}, "its dimensions have no names"),
        ({"id2label": {"0": "neu", "1": "neutral", "2": "ang", "3": "sad"}}, "the same emotion"),
        ({"id2label": {"0": "neu", "1": "hap", "2": "ang"}}, "of its head is (4, 6)"),
    ],
)
def test_labels_that_are_no_emotions_are_refused(settings, fault, superb):
    set_settings(superb, **settings)
    assert fault in refusal(superb)


def test_a_model_with_pickled_weights_only_is_refused(superb):
    (superb / "model.safetensors").rename(superb / "pytorch_model.bin")
    assert "only pickled weights (pytorch_model.bin)" in refusal(superb)


def test_a_folder_without_a_model_is_still_reported_as_no_checkpoint(tmp_path):
    with pytest.raises(Exception, match="not a regular file"):
        Predictor.load(tmp_path)


def test_predict_and_evaluate_take_a_published_model(superb, tiny_root, tmp_path):
    model = ("--checkpoint", superb, "--device", "cpu")
    done = run_here("predict", *model, tiny_root / "Actor_01", cwd=tmp_path)
    assert done.returncode == 0 and "neutral" in done.stdout
    evaluation = evaluate(str(superb), tiny_root, "all", "cpu", progress=False)
    assert len(evaluation.predictions.targets) == 72
    assert "whose training speakers are unknown" in evaluation.protocol
    assert any("unknown" in note for note in evaluation.notes)
    done = run_here("evaluate", *model, "--root", tiny_root, "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["protocol"] == evaluation.protocol


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--out", "x"), "--root"),
        (("--root", "r"), "--out"),
        (("--root", "r", "--part", "valid", "--out", "x"), "--part all"),
    ],
)
def test_evaluation_of_a_published_model_needs_a_corpus_and_a_place_for_the_report(arguments, fault, superb, tmp_path):
    done = run_here("evaluate", "--checkpoint", superb, "--device", "cpu", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and fault in done.stderr and len(done.stderr.splitlines()) == 1


@torch.inference_mode()
def test_a_replica_of_audeerings_model_predicts_what_its_own_class_predicts(tmp_path, tiny_root, monkeypatch):
    dimensions = {0: "arousal", 1: "dominance", 2: "valence"}
    model = CustomModel(config_of("xls-r", dimensions, problem_type="regression", pooling_mode="mean"), "out_proj")
    predictor = Predictor.load(save(model, tmp_path / "dim"), "cpu")
    assert predictor.labels == () and [d.name for d in predictor.dimensions] == list(dimensions.values())
    for seconds, pitch in ((0.4, 120), (0.9, 210)):
        clip = speechlike(seconds, pitch, 3)
        expected = model.eval()(standardize(torch.from_numpy(clip)[None], torch.tensor([len(clip)])))[0].numpy()
        prediction = predictor(clip, RATE)
        assert prediction.label is None
        assert np.abs(np.array([*prediction.dimensions.values()]) - expected).max() < 1e-5
    done = run_here("predict", "--checkpoint", tmp_path / "dim", tiny_root / "Actor_01", cwd=tmp_path)
    assert done.returncode == 0 and "arousal" in done.stdout and "dominance" in done.stdout

    def scan(*arguments):
        found = original(*arguments)
        rated = [replace(u, dimensions=(("arousal", n % 7 + 1.0), ("valence", 1.0 + n % 5), ("dominance", 1.0 + n % 3)))
                 for n, u in enumerate(found.utterances)]  # fmt: skip
        return replace(found, utterances=tuple(rated))

    original = dataset_module.scan_once
    monkeypatch.setattr(dataset_module, "scan_once", scan)
    evaluation = evaluate(str(tmp_path / "dim"), tiny_root, "all", "cpu", progress=False)
    assert set(evaluation.scores["dimensions"]) == {"arousal", "dominance", "valence", "mean"}
    warning = "arousal is rated from 1 to 7 here, and the model predicts 0 to 1: CCC and RMSE compare two scales"
    assert warning in evaluation.scores["warnings"][0]
    shutil.rmtree(tmp_path / "dim")
