"""The leakage lesson: each mistake is made as described, and nowhere else."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from serx.data.batches import StreamedAudio
from serx.data.dataset import load_dataset
from serx.data.splits.leaks import check_leaks
from serx.errors import ConfigError, LeakError
from serx.evaluation import evaluate
from serx.experiments.feature_cache import FeatureCache, cache_features
from serx.experiments.leakage import COPIES, format_lesson, make_cases, naive_split, run_leakage_lesson, with_copies
from serx.recognizer import Recognizer
from tests.conftest import batched

VECTORS = (
    "features={n_mels: 16, n_fft: 512, statistics: [mean, std]}",
    "model={kind: mlp, widths: [16]}",
    "augment={}",
)


@pytest.fixture
def cases(tiny_config):
    """The tiny corpus, and its four splits with two copies of each clip."""
    config = tiny_config(*VECTORS)
    dataset = load_dataset(config.data, progress=False)
    return dataset, {case.name: case for case in make_cases(dataset, config, 2, progress=False)}


def originals(part, n=72) -> set[int]:
    return {clip % n for clip in part}


def test_each_case_makes_its_mistake_and_the_last_makes_none(cases):
    dataset, named = cases
    speakers = {name: [{dataset.utterances[i].speaker_id for i in originals(part)} for part in
                       (case.split.train, case.split.test)] for name, case in named.items()}  # fmt: skip
    twice, copied, by_clips, _ = (case.split for case in named.values())
    assert set(twice.train) & set(twice.test)  # the same recordings
    assert not set(copied.train) & set(copied.test)
    assert originals(copied.train) & originals(copied.test)  # copies of them
    assert not originals(by_clips.train) & originals(by_clips.test)
    assert speakers["2-random"][0] & speakers["2-random"][1]  # other clips of the same speakers
    assert not speakers["3-speakers"][0] & speakers["3-speakers"][1]
    assert ["LEAKY" in case.split.stamp for case in named.values()] == [True, True, True, False]
    assert [case.speaker_independent for case in named.values()] == [False, False, False, True]


def test_parts_have_equal_shares_and_only_training_clips_have_copies(cases):
    _, named = cases
    sizes = {name: [len(part) for part in (case.split.train, case.split.valid, case.split.test)]
             for name, case in named.items()}  # fmt: skip
    assert sizes["3-speakers"] == [3 * 24, 24, 24]
    assert sizes["2-random"] == [3 * 24, 24, 24]
    assert sizes["1-copies"] == [3 * 24, 3 * 24, 3 * 24]
    assert sizes["0-doubled"] == [3 * 48, 48, 48]
    for name in ("0-doubled", "2-random", "3-speakers"):
        split = named[name].split
        assert max(split.valid + split.test) < 72 <= max(split.train)
        assert originals(split.train) == {clip for clip in split.train if clip < 72}


def test_a_naive_split_depends_on_its_seed_and_is_drawn_in_each_class():
    targets = np.repeat([0, 1], [30, 10])
    first, same, different = (naive_split(np.arange(40), targets, 0.2, 0.25, seed, "s") for seed in (0, 0, 1))
    assert first == same and first != different
    assert sorted(first.train + first.valid + first.test) == list(range(40))
    assert [np.bincount(targets[list(part)]).tolist() for part in (first.train, first.valid, first.test)] == [
        [18, 6], [6, 2], [6, 2],
    ]  # fmt: skip


def test_the_leak_check_refuses_the_splits_of_the_lesson(cases):
    dataset, named = cases
    split = named["0-doubled"].split
    within = {name: tuple(sorted(originals(getattr(split, name)))) for name in ("train", "valid", "test")}
    with pytest.raises(LeakError, match="the same audio"):
        check_leaks(dataset.utterances, type(split)(**within, stamp="", speaker_independent=False,
                                                    validation_independent=False), dataset.digests)  # fmt: skip


def test_the_protocol_of_the_configuration_must_be_speaker_independent(tiny_config, tiny_root, tess_root, tmp_path):
    with pytest.raises(ConfigError, match="LEAKY.*add data.protocol=luna5$"):
        run_leakage_lesson(tiny_config(*VECTORS, "data.protocol=random"), tmp_path, 1, progress=False)
    several = f"data.root=[{tiny_root}, {tess_root}]"
    with pytest.raises(ConfigError, match="LEAKY.*add data.protocol=kfold$"):
        run_leakage_lesson(tiny_config(*VECTORS, "data.protocol=random", several), tmp_path, 1, progress=False)
    with pytest.raises(
        ConfigError, match="LEAKY.*add data.protocol=loso$"
    ):  # eight speakers are too few for nine folds
        run_leakage_lesson(
            tiny_config(*VECTORS, "data.protocol=random", several, "data.folds=9"), tmp_path, 1, progress=False
        )
    with pytest.raises(ConfigError, match="--copies 0"):
        run_leakage_lesson(tiny_config(*VECTORS), tmp_path, 0, progress=False)


def test_copies_belong_to_their_clips(cases):
    dataset, _ = cases
    copied = with_copies(dataset, COPIES, 16_000, 0, progress=False)
    source, n = StreamedAudio(copied.audio_cache, torch.device("cpu")), len(dataset.utterances)
    assert (
        len(copied.utterances) == len(copied.targets) == len(copied.digests) == len(copied.audio_cache.lengths) == 4 * n
    )
    clips = np.array([5, n + 5, 2 * n + 5, 3 * n + 5])
    waveform, lengths = source.batch(clips)
    assert {copied.utterances[i].speaker_id for i in clips} == {dataset.utterances[5].speaker_id}
    assert set(copied.targets[clips]) == {dataset.targets[5]}
    assert lengths[1] == lengths[0] == lengths[3] and 1.1 < lengths[2] / lengths[0] < 1.3  # slower, by tempo 0.8-0.9
    noise = waveform[1] - waveform[0]
    snr_db = 10 * torch.log10(waveform[0].square().sum() / noise.square().sum())
    assert 14.9 < snr_db < 30.1
    assert [copied.utterances[i].path.stem.partition("+")[2] for i in clips[1:]] == [
        "noise-0", "time_stretch-1", "pitch_shift-2",
    ]  # fmt: skip
    assert len(set(copied.digests)) == 4 * n


def test_cached_features_equal_computed_features_in_any_batch(tiny_config, clips):
    config = tiny_config(*VECTORS)
    plain, recognizer = (Recognizer(config.features, config.model, ("a", "b"), 16_000) for _ in range(2))
    cache = FeatureCache()
    cache_features(recognizer, cache)
    for waves, extra in ((clips, 0), (clips[::-1], 777), (clips[:1], 0)):
        cached, cached_frames = recognizer.features(*batched(waves, extra))
        computed, frames = plain.features(*batched(waves, extra))
        assert torch.equal(cached_frames, frames)
        torch.testing.assert_close(cached, computed[..., : cached.shape[2]], rtol=1e-4, atol=1e-4)
    assert len(cache) == len(clips)


def test_features_are_read_from_the_cache_which_copies_of_a_model_share(tiny_config, clips):
    config = tiny_config(*VECTORS)
    plain, recognizer = (Recognizer(config.features, config.model, ("a", "b"), 16_000) for _ in range(2))
    cache = FeatureCache()
    cache_features(recognizer, cache)
    copied = deepcopy(recognizer)
    copied.features(*batched(clips))
    assert len(cache) == len(clips)
    for key in cache:
        cache[key] = cache[key] + 1
    expected = plain.features(*batched(clips))[0] + 1
    torch.testing.assert_close(recognizer.features(*batched(clips))[0], expected, rtol=1e-4, atol=1e-4)
    assert recognizer.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.slow
def test_a_lesson_with_speaker_adaptation_names_it_in_the_protocol_and_prints_each_note_once(
    tiny_config, tiny_root, tmp_path, capsys
):
    shutil.copytree(tiny_root, tmp_path / "root")
    (tmp_path / "root/03-01-05-01-01-01-01.wav").write_text("no audio")
    config = tiny_config(*VECTORS, "train.epochs=1", "model.adapt=true", f"data.root={tmp_path / 'root'}")
    lesson, _ = run_leakage_lesson(config, tmp_path / "lesson", 1, progress=False)
    text = capsys.readouterr().out
    # Each model of the lesson has its own training speakers, and says so.
    notes = [line for line in text.splitlines() if line.startswith("note: ") and "will be unknown" not in line]
    assert notes and len(set(notes)) == len(notes)
    assert "One recipe, 1 epoch each" in format_lesson(lesson) and "1 augmented copy made first" in text
    assert all("ADAPTED to each speaker with" in case["protocol"] for case in lesson["cases"])


@pytest.mark.slow
def test_the_lesson_is_written_as_json_and_figure_and_printed(tiny_config, tmp_path):
    config = tiny_config(*VECTORS, "train.epochs=4", "optim.lr=0.01")
    lesson, code = run_leakage_lesson(config, tmp_path / "lesson", 1, progress=False)
    assert code == 0
    assert lesson == json.loads((tmp_path / "lesson/leakage.json").read_text())
    assert (tmp_path / "lesson/leakage.png").read_bytes().startswith(b"\x89PNG")
    assert [case["speaker_independent"] for case in lesson["cases"]] == [False, False, False, True]
    assert [case["n_test"] for case in lesson["cases"]] == [48, 48, 24, 24]
    text = format_lesson(lesson)
    assert "One recipe, 4 epochs each" in text and text.count("LEAKY") == 3 and max(map(len, text.splitlines())) <= 100
    for case in lesson["cases"]:
        epochs = (tmp_path / "lesson" / case["case"] / "metrics.jsonl").read_text().splitlines()
        assert len(epochs) == 4 and json.loads(epochs[0])["protocol"] == case["protocol"]
    best = Path(tmp_path / "lesson/3-speakers/best.safetensors")
    again = evaluate(best, device="cpu", progress=False)  # it is an ordinary checkpoint
    assert again.accuracy == pytest.approx(lesson["cases"][3]["accuracy"])
    with pytest.raises(LeakError):
        evaluate(tmp_path / "lesson/0-doubled/best.safetensors", device="cpu", progress=False)
    with pytest.raises(ConfigError, match="holds a leakage lesson"):
        run_leakage_lesson(config, tmp_path / "lesson", 1, progress=False)
