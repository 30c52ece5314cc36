"""An evaluation on several corpora says how well the embedding tells them apart."""

from dataclasses import replace

import numpy as np
import torch

from serx.data.batches import make_batch_source
from serx.data.dataset import DataConfig, load_dataset
from serx.data.utterances import Utterances
from serx.evaluation.corpora import MAX_CLIPS, probe_corpora, probe_line
from serx.evaluation.cross_validation_report import format_cross_validation
from serx.evaluation.pooling import FoldResult, summarize_folds
from serx.evaluation.report import Evaluation, format_report
from serx.metrics.corpus_probe import corpus_probe
from serx.models.layers import embedding_heads
from serx.pages.evaluation_page import evaluation_page
from serx.recognizer import embeddings_of
from tests.evaluation.test_pooling import fold_results, random_predictions
from tests.inference.untrained import untrained_predictor

PROBE = {"balanced_accuracy": 0.8, "chance": 0.5, "with_training_clips": False}
LINE = "a linear probe tells the corpus of these clips from the embedding in 80.0 % (chance 50.0 %)"


def two_corpora(root, tmp_path):
    """The tiny corpus as two, of three speakers each, and a source of its clips."""
    dataset = load_dataset(DataConfig(root=str(root), cache=str(tmp_path)), progress=False)
    renamed = [replace(u, corpus="new") if u.speaker in "04 05 06" else u for u in dataset.utterances]
    dataset = replace(dataset, utterances=Utterances.of(renamed))
    return dataset, make_batch_source(dataset.audio_cache, torch.device("cpu"))


def test_the_probe_reads_what_the_last_layer_reads(tiny_root, tmp_path):
    dataset, source = two_corpora(tiny_root, tmp_path)
    recognizer, clips = untrained_predictor().recognizer, np.arange(len(dataset.utterances))
    found = probe_corpora(recognizer, dataset, clips, source)
    with torch.no_grad():
        [read] = embeddings_of(recognizer, embedding_heads(recognizer), [source.batch(clips)])
    corpora, speakers = ([getattr(u, name) for u in dataset.utterances] for name in ("corpus", "speaker_id"))
    expected = corpus_probe(read.double().numpy(), corpora, speakers)
    assert abs(found["balanced_accuracy"] - expected["balanced_accuracy"]) < 0.03  # rounding, near a border
    assert found["n_clips"] == len(clips) < MAX_CLIPS and not found["with_training_clips"]


def test_where_one_corpus_is_tested_the_training_clips_are_probed_too(tiny_root, tmp_path):
    dataset, source = two_corpora(tiny_root, tmp_path)
    test = np.array([i for i, u in enumerate(dataset.utterances) if u.corpus == "new"])
    found = probe_corpora(untrained_predictor().recognizer, dataset, test, source)
    assert found["with_training_clips"] and found["n_clips"] == len(dataset.utterances)
    assert "training and other clips" in probe_line(found)
    one = replace(dataset, utterances=Utterances.of([replace(u, corpus="new") for u in dataset.utterances]))
    assert probe_corpora(untrained_predictor().recognizer, one, test, source) is None


def test_reports_pages_and_folds_say_it():
    p = random_predictions()
    evaluation = Evaluation(p, "made fold 0, speaker-independent", {"corpus_probe": PROBE})
    assert LINE in " ".join(format_report(evaluation.scores).split())
    assert LINE[1:] in " ".join(evaluation_page(evaluation.scores, p, "made").split())
    results = [
        FoldResult(r.seed, r.fold, r.protocol, r.predictions, corpus_probe={**PROBE, "balanced_accuracy": accuracy})
        for r, accuracy in zip(fold_results(p), (0.7, 0.8, 0.9), strict=True)
    ]
    summary = summarize_folds(results)
    assert [fold["corpus_probe"]["balanced_accuracy"] for fold in summary["folds"]] == [0.7, 0.8, 0.9]
    assert LINE in " ".join(format_cross_validation(summary).split())
    assert "linear probe" not in format_cross_validation(summarize_folds(fold_results(p)))
