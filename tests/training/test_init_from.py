"""Beginning from a checkpoint's weights: what is taken, who may no longer be tested, and longer runs."""

import json
import shutil

import pytest
import soundfile
import torch

from serx import checkpoint
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import CheckpointError, ConfigError, LeakError
from serx.evaluation import evaluate
from serx.inference import Predictor
from serx.training.init_from import load_initial_weights, sources_of, take_weights
from serx.training.new_run import new_state
from serx.training.resume import why_not_longer
from serx.training.run_folder import BEST, LAST, METRICS
from serx.training.state import TrainingState
from serx.training.trainer import fit

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
OTHERS = ("data.test_speakers=[5]", "data.valid_speakers=[6]")  # of the checkpoint that is begun from


@pytest.fixture
def pretrained(trained):
    """The path of a checkpoint that was trained on speakers 1 and 2, validated on 3 and 4."""
    return trained("train.epochs=1")


def begun(config):
    """The new state of a configuration."""
    dataset = load_dataset(config.data, progress=False)
    split = split_dataset(dataset, config.data, progress=False)
    return new_state(config, dataset, split, make_batch_source(dataset.audio_cache, CPU), CPU, progress=False)


def test_a_run_begins_as_the_model_that_the_checkpoint_predicts_with(pretrained, tiny_config, clips, capsys):
    state, source = begun(tiny_config(f"train.init_from={pretrained}")), Predictor.load(pretrained, CPU).recognizer
    for name, tensor in source.state_dict().items():
        assert torch.equal(state.recognizer.state_dict()[name], tensor), name
        assert torch.equal(state.evaluated.state_dict()[name], tensor), name
    printed = capsys.readouterr().out
    total = len(source.state_dict())
    assert f"weights: {total} of {total} tensors from {pretrained}; new: none" in printed
    assert "normalizer: taken from it" in printed and "differs" not in printed


def test_with_other_labels_only_the_head_is_new_and_the_line_names_it(pretrained, tiny_config, capsys):
    source = Predictor.load(pretrained, CPU).recognizer.state_dict()
    for labels in ("{neutral: calm}", "{neutral: null}"):  # as many classes as before, and fewer
        state = begun(tiny_config(f"train.init_from={pretrained}", f"data.label_map={labels}"))
        own = state.recognizer.state_dict()
        new = {name for name in own if not torch.equal(own[name], source[name])}
        assert new == {"backbone.members.0.classifier.2.weight", "backbone.members.0.classifier.2.bias"}
        assert f"new: {', '.join(name for name in own if name in new)} (other labels)" in capsys.readouterr().out


def test_a_wider_network_takes_what_fits_and_names_the_differences(pretrained, tiny_config, capsys):
    state = begun(tiny_config(f"train.init_from={pretrained}", "model.widths=[8, 24]"))
    printed = capsys.readouterr().out
    assert "model.widths: [8, 16] -> [8, 24]" in printed and "have no place here: backbone.members.0." in printed
    source = Predictor.load(pretrained, CPU).recognizer.state_dict()
    own = state.recognizer.state_dict()
    same = [n for n in own if own[n].shape == source[n].shape and own[n].dim() > 1 and torch.equal(own[n], source[n])]
    assert 0 < len(same) < len(own)


def test_with_other_features_the_normalizer_is_fitted_anew(pretrained, tiny_config, capsys):
    plain = begun(tiny_config("features.f_max=6000.0"))
    state = begun(tiny_config(f"train.init_from={pretrained}", "features.f_max=6000.0"))
    assert torch.equal(state.recognizer.normalizer.mean, plain.recognizer.normalizer.mean)
    filters = {n: t for n, t in plain.recognizer.state_dict().items() if n.startswith("features.")}
    assert all(torch.equal(state.recognizer.state_dict()[name], tensor) for name, tensor in filters.items())
    printed = capsys.readouterr().out
    assert "normalizer: fitted on the training clips" in printed and "features.f_max: None -> 6000.0" in printed


def test_a_checkpoint_of_which_nothing_fits_is_refused(pretrained, tiny_config):
    config = tiny_config(f"train.init_from={pretrained}", "model={kind: cnn1d, stem: 8, widths: [8, 8, 8]}")
    with pytest.raises(ConfigError, match=r"no weight of .* fits this model.*model\.kind: cnn2d -> cnn1d"):
        begun(config)


def test_a_checkpoint_that_cannot_be_read_is_refused_by_its_setting(tiny_config, tmp_path):
    with pytest.raises(CheckpointError, match=r"train\.init_from: .*none\.safetensors"):
        begun(tiny_config(f"train.init_from={tmp_path / 'none.safetensors'}"))
    with pytest.raises(ConfigError, match="classical"):
        tiny_config("train.init_from=x", "model={kind: classical}", "augment={}", "train.ema_decay=0")


@pytest.mark.parametrize(
    ("parts", "leaked"),
    [
        (("data.test_speakers=[1]", "data.valid_speakers=[6]"), "ravdess/01.*in the test part"),
        (("data.test_speakers=[5]", "data.valid_speakers=[2]"), "ravdess/02.*in the valid part"),
        (("data.test_speakers=[3]", "data.valid_speakers=[6]"), "ravdess/03.*in the test part"),  # chose its epoch
        (("data.protocol=random",), r"\.wav.*in the test part"),
    ],
)
def test_speakers_and_clips_of_the_source_may_neither_validate_nor_test(parts, leaked, pretrained, tiny_config):
    with pytest.raises(LeakError, match=rf"train\.init_from, train\.teachers: .*{leaked}"):
        begun(tiny_config(*parts, f"train.init_from={pretrained}"))


def manifest(folder, tiny_root, speakers: dict[str, str], level: float = 1.0):
    """A manifest of the clips of some actors under other names, at another level."""
    rows = ["path,emotion,speaker,corpus"]
    for actor, name in speakers.items():
        for path in sorted((tiny_root / f"Actor_{actor}").iterdir()):
            emotion = {"01": "neutral", "03": "happy", "05": "angry"}[path.name[6:8]]
            soundfile.write(folder / f"{name}-{path.name}", level * soundfile.read(path)[0], 16_000, "FLOAT")
            rows.append(f"{name}-{path.name},{emotion},{name},mine")
    (folder / "clips.csv").write_text("\n".join(rows))
    return folder / "clips.csv"


def test_copies_of_the_sources_clips_are_refused_at_training_and_in_an_evaluation(
    pretrained, tiny_config, tiny_root, tmp_path
):
    root = manifest(tmp_path, tiny_root, {"01": "ann", "03": "cat", "04": "dan", "05": "eve"}, level=0.5)
    own = (f"data.root={root}", f"train.init_from={pretrained}", "train.epochs=1")
    with pytest.raises(LeakError, match=r"ann-.*\(a copy of .*in the test part"):
        begun(tiny_config(*own, "data.test_speakers=[ann]", "data.valid_speakers=[eve]"))
    run = tmp_path / "tuned"
    fit(tiny_config(*own, "data.test_speakers=[eve]", "data.valid_speakers=[dan]"), run, progress=False)
    shutil.rmtree(tmp_path / "ann", ignore_errors=True)
    new = manifest(tmp_path, tiny_root, {"02": "bob"}, level=0.5)
    with pytest.raises(LeakError, match=r"bob-.*\(a copy of"):
        evaluate(run / BEST, str(new), device=CPU, progress=False)


def test_a_chain_of_runs_keeps_the_union_of_its_speakers(pretrained, tiny_config, tiny_root, tmp_path):
    root = manifest(tmp_path, tiny_root, {"03": "cat", "04": "dan", "05": "eve"})
    own = (f"data.root={root}", "data.test_speakers=[eve]", "data.valid_speakers=[dan]", "train.epochs=1")
    source = pretrained
    for name in ("second", "third"):
        fit(tiny_config(*own, f"train.init_from={source}"), tmp_path / name, progress=False)
        source = tmp_path / name / BEST
    saved, first = checkpoint.load(source).metadata, checkpoint.load(pretrained).metadata
    second, origin = sources_of(saved)
    assert origin["sha256"] == first["sha256"] and origin["digests"] == first["digests"]
    assert second["sha256"] == checkpoint.load(tmp_path / "second" / BEST).metadata["sha256"]
    assert "initialized from a checkpoint trained on 36 clips of 3 speakers" in saved["protocol"]
    result = evaluate(source, device=CPU, progress=False)
    assert result.protocol == saved["protocol"] and set(result.predictions.speaker_ids) == {"mine/eve"}
    # Speaker 01 trained the first of the three only.
    with pytest.raises(LeakError, match=rf"ravdess/01 \(with {pretrained}\)"):
        evaluate(source, str(tiny_root / "Actor_01"), "all", device=CPU, progress=False)
    with pytest.raises(LeakError, match="ravdess/01"):
        begun(tiny_config(f"train.init_from={source}", "data.test_speakers=[1]", "data.valid_speakers=[6]"))


def test_a_run_that_began_from_a_checkpoint_resumes_without_it_and_keeps_its_record(pretrained, tiny_config, tmp_path):
    copy, config = tmp_path / "copy.safetensors", ("train.epochs=2", "optim.schedule=constant")
    shutil.copy(pretrained, copy)
    for name in ("whole", "resumed"):
        fit(tiny_config(*config, f"train.init_from={copy}"), tmp_path / name, progress=False)
    copy.unlink()
    config = tiny_config("train.epochs=3", *config[1:], f"train.init_from={copy}")
    fit(config, tmp_path / "resumed", resume=True, progress=False)
    saved = checkpoint.load(tmp_path / "resumed" / LAST).metadata
    assert saved["init_from"] == checkpoint.load(tmp_path / "whole" / LAST).metadata["init_from"] != []
    assert "initialized from a checkpoint" in saved["protocol"]


@pytest.mark.parametrize("wrong", ["text", [1], [{}], [{"path": 1}], {"a": 1}, [{"path": "x", "speakers": {}}]])
def test_a_damaged_record_of_sources_is_named(wrong):
    with pytest.raises(CheckpointError, match="init_from is not what serx writes"):
        sources_of({"init_from": wrong})


def test_a_run_that_is_made_longer_ends_with_the_bits_of_one_run(tiny_config, tmp_path, capsys):
    for schedule in ("constant", "plateau"):
        settings = (f"optim.schedule={schedule}", "optim.plateau_patience=1", "augment.mixup=0.4")
        whole, longer = tmp_path / f"{schedule}-whole", tmp_path / f"{schedule}-longer"
        fit(tiny_config(*settings, "train.epochs=6"), whole, progress=False)
        fit(tiny_config(*settings, "train.epochs=3"), longer, progress=False)
        capsys.readouterr()
        fit(tiny_config(*settings, "train.epochs=6"), longer, resume=True, progress=False)
        assert "note: resumed with a difference: train.epochs: 3 -> 6" in capsys.readouterr().out
        for name in (LAST, BEST):
            a, b = checkpoint.load(whole / name), checkpoint.load(longer / name)
            assert a.metadata["progress"] == b.metadata["progress"] and a.tensors.keys() == b.tensors.keys()
            assert all(torch.equal(tensor, b.tensors[key]) for key, tensor in a.tensors.items())
        records = [[json.loads(line) for line in (run / METRICS).open()] for run in (whole, longer)]
        for record in (*records[0], *records[1]):
            del record["clips_per_second"]
        assert records[0] == records[1] and len(records[0]) == 6


def test_a_run_whose_schedule_has_an_end_is_not_made_longer_and_the_line_says_what_to_do(tiny_config, tmp_path, capsys):
    fit(tiny_config("train.epochs=1"), tmp_path / "run", progress=False)
    with pytest.raises(ConfigError) as caught:
        fit(tiny_config("train.epochs=2"), tmp_path / "run", resume=True, progress=False)
    assert str(caught.value) == (
        "--resume: train.epochs: 1 -> 2: optim.schedule onecycle spreads the learning rate over all epochs, "
        "so this would be another run; start a new one from these weights, without --resume: "
        f"train.init_from={tmp_path / 'run' / BEST} train.output=ANOTHER_FOLDER"
    )
    capsys.readouterr()
    fit(tiny_config("train.epochs=1"), tmp_path / "run", resume=True, progress=False)
    assert "nothing is left to train: all 1 epochs are done; it cannot be made longer" in capsys.readouterr().out


def test_only_a_schedule_without_an_end_and_without_warmup_can_be_made_longer(tiny_config):
    def reason(*overrides):
        return why_not_longer(tiny_config(*overrides).model_dump(mode="json"))

    assert reason("optim.schedule=constant") is None and reason("optim.schedule=plateau") is None
    assert "warmup_ratio 0.1 is a fraction of all epochs" in reason("optim.schedule=constant", "optim.warmup_ratio=0.1")
    assert "cosine" in reason("optim.schedule=cosine") and "onecycle" in reason()


def test_taking_weights_changes_no_random_number(pretrained, tiny_config):
    config = tiny_config("data.label_map={neutral: calm}")
    labels = load_dataset(config.data, progress=False).labels
    state = TrainingState(config, labels, CPU, pretrained=False)
    torch.manual_seed(7)
    take_weights(state.recognizer, load_initial_weights(str(pretrained)), config)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))
