"""A linear probe: scikit-learn as the oracle of the fit, closed forms of the offsets, and whole runs."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from serx import Predictor
from serx.config.loader import load_config
from serx.errors import ConfigError
from serx.evaluation import evaluate
from serx.models.encoders.architecture import WhisperArchitecture
from serx.models.layers import embedding_heads
from serx.models.linear_probe import (
    RELIABILITY,
    ClipOffsetHead,
    LinearProbe,
    LinearProbeConfig,
    ProbeTargets,
    _leading_directions,
)
from serx.speaker_model import SpeakerModel
from serx.training.trainer import fit

CLASSES = 3


def probe(size: int = 24, **settings) -> LinearProbe:
    """A probe of vectors with `size` entries, a multiple of 4."""
    architecture = WhisperArchitecture(
        d_model=size // 4,
        encoder_layers=1,
        encoder_attention_heads=1,
        encoder_ffn_dim=8,
        num_mel_bins=80,
        max_source_positions=1500,
    )
    config = LinearProbeConfig(architecture=architecture, **settings)
    assert config.vector_size == size
    return LinearProbe(config, 1, CLASSES)


def targets_of(labels, speakers=None, corpora=None, weights=None, smoothed=None) -> ProbeTargets:
    one_hot, count = torch.eye(CLASSES).double()[torch.as_tensor(labels)], len(labels)
    zeros = np.zeros(count, np.int64)
    return ProbeTargets(
        truth=one_hot,
        smoothed=one_hot if smoothed is None else smoothed,
        possible=None,
        weights=torch.ones(count).double() if weights is None else torch.as_tensor(weights).double(),
        speakers=torch.as_tensor(zeros if speakers is None else speakers),
        corpora=torch.as_tensor(zeros if corpora is None else corpora),
    )


def speech_like(random, speakers: int, clips: int, size: int = 24, offset: float = 2.0, noise: float = 1.0):
    """Vectors of an emotion, a speaker and noise; labels and speakers."""
    labels = np.tile(np.arange(CLASSES), speakers * clips // CLASSES)
    speaker = np.repeat(np.arange(speakers), clips)
    means, offsets = 2 * np.eye(size)[:CLASSES], offset * random.standard_normal((speakers, size))
    vectors = means[labels] + offsets[speaker] + noise * random.standard_normal((len(labels), size))
    return torch.from_numpy(vectors).float(), labels, speaker


def logits_of(model: LinearProbe, vectors: Tensor) -> Tensor:
    return model(vectors[..., None], torch.ones(len(vectors)))


def test_the_fit_is_that_of_scikit_learn_where_there_are_no_offsets():
    random = np.random.default_rng(0)
    vectors, labels, _ = speech_like(random, 20, 15)
    weights = random.uniform(0.2, 3.0, len(labels))
    model = probe(l2=0.3, components=24)
    model.fit(vectors, targets_of(labels, weights=weights))

    weights = weights / weights.mean()
    x = vectors.numpy()
    mean = np.average(x, axis=0, weights=weights)
    standardized = (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
    oracle = LogisticRegression(C=1 / (0.3 * len(x)), tol=1e-8, max_iter=5000).fit(standardized, labels, weights)
    found = logits_of(model, vectors).softmax(1).numpy()
    np.testing.assert_allclose(found, oracle.predict_proba(standardized), atol=2e-4)


def test_a_clip_of_twice_the_weight_counts_as_two_clips():
    vectors, labels, _ = speech_like(np.random.default_rng(1), 6, 12)
    twice = np.r_[np.arange(len(labels)), np.arange(20)]
    weights = np.ones(len(labels))
    weights[:20] = 2
    by_weight, by_copy = probe(components=8), probe(components=8)
    by_weight.fit(vectors, targets_of(labels, weights=weights))
    by_copy.fit(vectors[twice], targets_of(labels[twice]))
    torch.testing.assert_close(logits_of(by_weight, vectors), logits_of(by_copy, vectors), atol=2e-3, rtol=1e-3)


def test_the_offset_of_a_clip_is_what_remains_of_it_without_its_emotion_shrunk_by_the_variances():
    head = ClipOffsetHead(2, CLASSES)
    head.means.copy_(torch.tensor([[10.0, 0.0], [-10.0, 0.0], [0.0, 10.0]]))
    head.within.copy_(torch.tensor([1.0, 2.0]))
    head.between.copy_(torch.tensor([4.0, 0.5]))
    head.classifier.weight.data.copy_(5 * head.means)
    head.classifier.bias.data.zero_()
    clip = torch.tensor([[11.0, 3.0], [-10.5, -1.0]])
    weight = torch.tensor([4.0, 0.5]) / (torch.tensor([4.0, 0.5]) + torch.tensor([1.0, 2.0]) / RELIABILITY)
    expected = head.classifier(clip - weight * (clip - head.means[:2]))
    torch.testing.assert_close(head(clip), expected)
    for share in (0.0, 0.25, 1.0):  # less where the speaker is known from other clips
        head.own_share = share
        offset = share * weight * (clip - head.means[:2])
        torch.testing.assert_close(head(clip), head.classifier(clip - offset))


def test_new_speakers_are_understood_better_by_several_of_their_clips():
    vectors, labels, speaker = speech_like(np.random.default_rng(2), 40, 30)
    known = speaker < 30
    model = probe(components=24, l2=1e-3)
    model.fit(vectors[known], targets_of(labels[known], speaker[known]))
    model.head.own_share = 0.0
    logits = logits_of(model, vectors)
    speaker_model = SpeakerModel.fit(logits[known], labels[known], [f"s{s}" for s in speaker[known]])
    assert speaker_model is not None
    alone, truth = logits[~known].argmax(1).numpy(), labels[~known]
    new = [logits[speaker == s] for s in range(30, 40)]
    together = torch.cat([speaker_model.infer(own).apply(own) for own in new]).argmax(1).numpy()
    assert (together == truth).mean() > (alone == truth).mean() + 0.1


def test_few_speakers_leave_the_embedding_as_it_is():
    vectors, labels, speaker = speech_like(np.random.default_rng(3), 3, 30)
    model = probe(components=8)
    model.fit(vectors, targets_of(labels, speaker))
    assert not model.head.between.any()
    torch.testing.assert_close(logits_of(model, vectors), model.head.classifier(model.embed(vectors)))


def test_directions_in_which_corpora_express_an_emotion_differently_are_trusted_less():
    random = np.random.default_rng(4)
    labels, corpora = np.tile(np.arange(CLASSES), 80), np.repeat([0, 1], 120)
    vectors = random.standard_normal((240, 24))
    vectors[:, :3] += 2 * np.eye(CLASSES)[labels]
    vectors[:, 5] += 4.0 * (labels == 1) * (corpora == 0)  # one corpus alone
    share = []
    for penalty in (0.0, 100.0):
        model = probe(components=24, corpus_penalty=penalty)
        model.fit(torch.from_numpy(vectors).float(), targets_of(labels, corpora=corpora))
        weight = (model.projection @ model.head.classifier.weight.T).abs()
        share.append(float(weight[5].sum() / weight.sum()))
    assert share[1] < 0.6 * share[0]


def test_leading_directions_of_many_rows_are_those_of_the_exact_decomposition():
    random = torch.Generator().manual_seed(0)
    rows = torch.randn(2000, 300, generator=random) * torch.logspace(1, -2, 300)
    found, exact = _leading_directions(rows, 20), torch.linalg.svd(rows, full_matrices=False).Vh[:20].T
    torch.testing.assert_close(found @ found.T, exact @ exact.T, atol=1e-3, rtol=0)


def probe_config(root, folder, *overrides):
    return load_config(
        "configs/encoder_probe.yaml",
        f"data.root={root}",
        "data.protocol=speakers",
        "data.test_speakers=['01']",
        f"model.source={folder}",
        *overrides,
    )


def test_a_run_is_one_fit_that_no_seed_changes(tiny_root, tmp_path, encoder_folder):
    folder = encoder_folder("whisper")
    runs = [
        fit(
            probe_config(tiny_root, folder, f"train.seed={seed}", "train.epochs=5"),
            tmp_path / str(seed),
            progress=False,
        )
        for seed in (0, 1)
    ]
    assert (runs[0].folder / "metrics.jsonl").read_text().count("\n") == 1
    first, second = (Predictor.load(run.checkpoint).recognizer.backbone.members.state_dict() for run in runs)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_a_probe_is_adapted_and_restored(tiny_root, tmp_path, encoder_folder):
    run = fit(probe_config(tiny_root, encoder_folder("whisper")), tmp_path / "run", progress=False)
    plain, with_clips = (
        evaluate(run.checkpoint, adapt=adapt, progress=False).predictions.probabilities for adapt in (False, True)
    )
    assert (with_clips != plain).any()
    np.testing.assert_array_equal(evaluate(run.checkpoint, progress=False).predictions.probabilities, plain)
    recognizer = Predictor.load(run.checkpoint).recognizer
    assert recognizer.speaker_model is not None
    assert [type(head) for head in embedding_heads(recognizer)] == [ClipOffsetHead]


def corpora_with_shifts(shift: float):
    """Vectors of two corpora of five speakers each, the second shifted by a constant."""
    vectors, labels, speaker = speech_like(np.random.default_rng(5), 10, 30)
    corpora = (speaker >= 5).astype(int)
    return vectors + shift * torch.from_numpy(corpora)[:, None], targets_of(labels, speaker, corpora)


def test_what_shifts_a_whole_corpus_changes_nothing_but_how_far_speakers_may_differ():
    plain, shifted = (probe(corpus_norm=True, corpus_penalty=0.0) for _ in range(2))
    plain.fit(*corpora_with_shifts(0.0))
    shifted.fit(*corpora_with_shifts(20.0))
    vectors, _ = corpora_with_shifts(0.0)

    def logits(model: LinearProbe) -> Tensor:
        return model.head.classifier(model.embed(vectors + model.center - plain.center))

    torch.testing.assert_close(logits(shifted), logits(plain), atol=5e-3, rtol=5e-3)
    assert shifted.head.between.sum() > 2 * plain.head.between.sum()
    without = probe(corpus_penalty=0.0)
    without.fit(*corpora_with_shifts(20.0))
    assert (logits(without) - logits(plain)).abs().max() > 0.1


def test_one_corpus_is_not_normalized():
    vectors, labels, speaker = speech_like(np.random.default_rng(6), 10, 30)
    models = [probe(corpus_norm=choice) for choice in (False, True)]
    for model in models:
        model.fit(vectors, targets_of(labels, speaker))
    assert all(torch.equal(tensor, models[1].state_dict()[name]) for name, tensor in models[0].state_dict().items())


def test_augmented_copies_train_with_their_clips(tiny_root, tmp_path, encoder_folder):
    noise = "augment.waveform=[{kind: noise, p: 1.0, snr_db: [5, 20]}]"
    run = fit(
        probe_config(tiny_root, encoder_folder("whisper"), noise, "augment.copies=1"), tmp_path / "run", progress=False
    )
    assert Predictor.load(run.checkpoint).recognizer.speaker_model is not None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.waveform=[{kind: noise, p: 1.0}]", "augment.copies"),
        ("augment.mixup=0.3", "no effect with model.kind linear_probe"),
        ("train.ema_decay=0.9", "no effect with model.kind linear_probe"),
        ("model.l2=-1", "l2"),
        ("model.ensemble_size=2", "ensemble_size"),
    ],
)
def test_settings_that_a_fit_cannot_have_are_refused(override, message, tiny_root, encoder_folder):
    with pytest.raises(ConfigError, match=message):
        probe_config(tiny_root, encoder_folder("whisper"), override)
