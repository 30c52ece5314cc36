"""The configuration: what is read, what is refused, and how well the refusal helps."""

from pathlib import Path

import pytest

from serx.config import Config, dump, from_tree, load_config, tuples
from serx.config.schema import dotted_keys
from serx.errors import ConfigError

SHIPPED = sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml"))


@pytest.fixture
def yaml_file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "c.yaml"
        path.write_text(text)
        return path

    return write


GOOD = "data: {root: somewhere}\nmodel: {kind: cnn1d}\n"


def mistakes(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).split("\n")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configurations_load_and_survive_a_round_trip(path, tmp_path):
    config = load_config(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump(config))
    assert load_config(copy) == config
    assert from_tree(tuples(config.model_dump(mode="json"))) == config


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_key_of_a_shipped_configuration_misspelt_is_refused_with_its_line(path, tmp_path):
    lines = path.read_text().splitlines()
    tried = 0
    for i, line in enumerate(lines):
        key = line.split(":")[0].strip(" -{")
        if line.startswith("#") or ":" not in line or not key.isidentifier() or key == "kind":
            continue
        tried += 1
        broken = tmp_path / "broken.yaml"
        broken.write_text("\n".join([*lines[:i], line.replace(key, key + "x", 1), *lines[i + 1 :]]))
        told = mistakes(broken)
        assert any(f"broken.yaml:{i + 1}: " in t and f"{key}x" in t and "did you mean" in t for t in told), told
    assert tried > 5


def test_overrides_win_over_the_file_and_are_typed(yaml_file):
    config = load_config(yaml_file(GOOD), ["optim.lr=1e-4", "train.epochs=7", "data.root=[a, b]", "features.top_db=null"])
    assert (config.optim.lr, config.train.epochs, config.data.root) == (1e-4, 7, ("a", "b"))
    assert config.features.top_db is None


LISTED = GOOD + "augment:\n  waveform:\n    - {kind: noise, p: 0.5}\n    - {kind: crop}\n    - {kind: noise}\n"


def test_an_override_reaches_an_item_of_a_list_by_number_or_kind(yaml_file):
    overrides = ["augment.waveform.0.p=0.25", "augment.waveform.crop.seconds=1.5", "augment.waveform.2={kind: gain}"]
    noise, crop, last = load_config(yaml_file(LISTED), overrides).augment.waveform
    assert (noise.p, crop.seconds, last.kind) == (0.25, 1.5, "gain")
    assert load_config(yaml_file(LISTED)).augment.waveform[0].p == 0.5


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("augment.waveform.noise.p=0", "noise stands there more than once; give its number: it holds 0 (noise)"),
        ("augment.waveform.3.p=0", "3 is not in this list: it holds 0 (noise), 1 (crop), 2 (noise)"),
        ("augment.waveform.gain.p=0", "gain is not in this list"),
        ("augment.waveform.crop.second=1", "unknown key augment.waveform.1.second; did you mean"),
        ("augment.waveform.1.kind.x=1", "there is 'crop' where x should be"),
        (".".join("a" * 5000) + "=1", "is not section.key=value"),
    ],
)  # fmt: skip
def test_an_override_of_an_item_that_is_not_there_is_refused(override, told, yaml_file):
    [line] = mistakes(yaml_file(LISTED), override)
    assert line.startswith("command line: ") and told in line


def test_numbers_in_scientific_notation_are_numbers(yaml_file):
    for text, value in {"1e-3": 1e-3, "2E5": 2e5, "3.e-2": 3e-2, ".5e1": 5.0}.items():
        assert load_config(yaml_file(GOOD + f"optim: {{lr: {text}}}\n")).optim.lr == value


def test_scalars_are_what_they_look_like(yaml_file):
    names = ["data.protocol=speakers", "data.test_speakers=[01, 010, 7, 08]"]
    config = load_config(yaml_file(GOOD), [*names, "data.label_map={calm: no, sad: null}"])
    assert config.data.test_speakers == ("01", "010", "7", "08")
    assert config.data.label_map == {"calm": "no", "sad": None}


def test_all_mistakes_are_told_at_once_with_their_lines(yaml_file):
    path = yaml_file(
        "data:\n  root: x\n  protocl: luna5\nmodel:\n  kind: cnn2d\n  dropout: high\ntrain:\n  epochs: 0\n  lr: 0.1\n"
    )
    told = mistakes(path)
    assert told[0] == f"{path}:3: unknown key data.protocl; did you mean data.protocol?"
    assert any(t.startswith(f"{path}:6: model.dropout: ") and "'high'" in t for t in told)
    assert any(t.startswith(f"{path}:8: train.epochs: ") for t in told)
    assert f"{path}:9: unknown key train.lr; did you mean optim.lr?" in told
    assert len(told) == 4


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epochs=ten", "train.epochs"),
        ("train.epochs=2.5", "train.epochs"),
        ("train.seed=true", "train.seed"),
        ("optim.lr=.nan", "optim.lr"),
        ("optim.lr=.inf", "optim.lr"),
        ("optim.lr=-1", "optim.lr"),
        ("model.kind=cnn3d", "model"),
        ("model.kernel=4", "model.kernel: a kernel must be odd"),
        ("model={kind: sequential, kernels: [5, 4]}", "model.kernels.1: a kernel must be odd"),
        ("features.stack=[logmell]", "logmel"),
        ("train.epochz=3", "did you mean train.epochs"),
        ("epochs", "section.key=value"),
        ("train.epochs.deep=1", "epochs"),
    ],
)
def test_a_wrong_override_is_refused_by_name(override, expected, yaml_file):
    told = mistakes(yaml_file(GOOD), override)
    assert len(told) == 1
    assert told[0].startswith("command line: ")
    assert expected in told[0]


def test_a_key_given_twice_is_refused(yaml_file):
    path = yaml_file("data: {root: x}\nmodel: {kind: cnn1d}\ntrain:\n  epochs: 3\n  seed: 1\n  epochs: 4\n")
    assert mistakes(path) == [f"{path}:6: epochs stands twice (first on line 4); remove one"]


def test_a_missing_key_is_named(yaml_file):
    assert "data.root is missing" in mistakes(yaml_file("data: {fold: 1}\nmodel: {kind: cnn1d}\n"))[0]


def test_text_that_is_no_yaml_is_refused_with_its_line(yaml_file):
    assert (
        ":2: not YAML" in mistakes(yaml_file("data: {root: x}\nmodel: [\n"))[0]
        or ":3: not YAML" in mistakes(yaml_file("data: {root: x}\nmodel: [\n"))[0]
    )


def test_a_missing_file_names_those_that_are_there(yaml_file):
    path = yaml_file(GOOD)
    assert str(path) in mistakes(path.with_name("d.yaml"))[0]


def test_a_transforms_unknown_key_is_refused_at_its_line(yaml_file):
    path = yaml_file(GOOD + "augment:\n  waveform:\n    - {kind: noise, p: 0.5}\n    - {kind: noise, snr: [1, 2]}\n")
    told = mistakes(path)
    assert told[0].startswith(f"{path}:6: unknown key augment.waveform.1.snr")
    assert "augment.waveform.snr_db" in told[0]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model={kind: timm, widths: [8]}", "model.widths"),
        ("model={kind: cnn1d, kernels: [3]}", "model.kernels"),
        ("augment.waveform=[{kind: noise, ratio: 2}]", "augment.waveform.0.ratio"),
    ],
)
def test_no_key_of_another_kind_is_suggested(override, key, yaml_file):
    told = mistakes(yaml_file(GOOD), override)
    assert len(told) == 1 and f"unknown key {key}; " in told[0]
    assert not told[0].endswith(key.replace(".0", "") + "?")
    assert ("did you mean model.kernel?" in told[0]) == ("kernels" in key)


def test_a_list_of_features_is_short_for_their_stack(yaml_file):
    config = load_config(yaml_file(GOOD + "features: [mfcc, chroma]\n"), ["features.hop_length=160"])
    assert (config.features.stack, config.features.hop_length) == (("mfcc", "chroma"), 160)
    assert load_config(yaml_file(GOOD), ["features=[rms, zcr]"]).features.stack == ("rms", "zcr")


def test_a_misspelt_feature_in_a_bare_list_is_refused_at_its_line(yaml_file):
    path = yaml_file(GOOD + "features:\n  - mfcc\n  - chrome\n")
    told = mistakes(path)
    assert len(told) == 1
    assert told[0].startswith(f"{path}:5: features.stack.1: ") and "'chrome'" in told[0]


def test_fused_warping_of_features_that_cannot_be_warped_is_refused(yaml_file):
    path = yaml_file(GOOD + "features: [mfcc, chroma]\naugment: {mel_warp: {p: 0.5, rate: [0.9, 1.1]}}\n")
    told = mistakes(path)
    assert len(told) == 1 and told[0].startswith(f"{path}:4: augment.mel_warp") and "chroma" in told[0]
    assert load_config(path, ["features=[mfcc]"]).augment.mel_warp.rate == (0.9, 1.1)
    assert "smaller first" in mistakes(path, "augment.mel_warp.rate=[1.1, 0.9]")[0]


WAVEFORM = "data: {root: x}\nfeatures: {stack: [waveform], normalize: none}\nmodel: {kind: speech_encoder}\n"


@pytest.mark.parametrize(
    ("override", "place", "told"),
    [
        ("features={stack: [logmel]}", "command line", "features.stack: [waveform]"),
        ("augment.spectrogram=[{kind: time_mask}]", "command line", "augment.spectrogram"),
        ("augment.mel_warp={p: 0.5}", "command line", "augment.mel_warp"),
        ("augment.mixstyle=0.5", "command line", "augment.mixstyle"),
        ("data.sample_rate=8000", "command line", "16000 Hz"),
        ("features.normalize=clip", ":2: features", "normalize: none"),
        ("features.stack=[waveform, rms]", ":2: features", "alone"),
        ("model.bundle=WAV2VEC_BASE", "command line", "did you mean WAV2VEC2_BASE"),
        ("model.tune=ful", "command line", "'full'"),
    ],
)
def test_what_a_speech_encoder_cannot_hear_is_refused_where_it_stands(override, place, told, yaml_file):
    assert load_config(yaml_file(WAVEFORM)).features.bins == 1
    lines = mistakes(yaml_file(WAVEFORM), override)
    assert len(lines) == 1 and place in lines[0] and told in lines[0]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.select=uar", "train.select is uar, but nobody validates (data.valid_fraction: 0); write last"),
        ("train.select=loss", "train.select is loss"),
        ("optim.schedule=plateau", "write onecycle"),
        ("model={kind: classical, c: [0.01, 0.1]}", "lists 2 values"),
    ],
)
def test_what_validation_would_choose_is_refused_where_nobody_validates(override, told, yaml_file):
    path = yaml_file("data: {root: x, valid_fraction: 0}\nmodel: {kind: cnn2d}\ntrain: {select: last}\n")
    assert load_config(path).data.valid_fraction == 0
    lines = mistakes(path, override)
    assert len(lines) == 1 and lines[0].startswith("command line") and told in lines[0]
    somebody = ["data.protocol=speakers", "data.test_speakers=[1]", "data.valid_speakers=[2]"]
    assert load_config(path, ["train.select=uar", override, *somebody])


@pytest.mark.parametrize(
    ("override", "told"),
    [("train.patience=3", "or leave patience out"), ("optim.schedule=plateau", "or another schedule")],
)
def test_what_waits_for_a_better_epoch_is_refused_where_each_is_better(override, told, yaml_file):
    path = yaml_file("data: {root: x}\nmodel: {kind: cnn2d}\ntrain: {select: loss}\n")
    assert load_config(path, [override])
    [line] = mistakes(path, "train.select=last", override)
    assert line.startswith(f"command line: {override}") and "select uar or loss" in line and line.endswith(told)


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("data.test_speakers=[7]", "speakers"),
        ("data.valid_speakers=[7]", "speakers"),
        ("data.test_corpora=[tess]", "cross_corpus"),
    ],
)
def test_speakers_named_for_another_protocol_are_refused_lest_they_train(override, right, yaml_file):
    path = yaml_file(GOOD)
    for protocol in {"luna5", "kfold", "random", "manifest", "speakers", "cross_corpus"} - {right}:
        [line] = mistakes(path, override, f"data.protocol={protocol}")
        assert line.startswith(f"command line: {override}") and f"write protocol: {right}" in line
    assert load_config(path, [override, f"data.protocol={right}"])


def test_rare_classes_are_made_up_for_once(yaml_file):
    path = yaml_file(GOOD + "train: {logit_adjustment: 1.0}\n")
    assert load_config(path).train.logit_adjustment == 1
    told = mistakes(path, "train.class_weights=balanced")
    assert len(told) == 1 and told[0].startswith(f"{path}:3: train.logit_adjustment and train.class_weights both")
    assert "means nothing to model.kind classical" in mistakes(path, "model={kind: classical}")[0]


def test_labels_are_a_list_or_shared(yaml_file):
    assert load_config(yaml_file(GOOD), ["data.labels=shared"]).data.labels == "shared"
    assert load_config(yaml_file(GOOD), ["data.labels=[happy, sad]"]).data.labels == ("happy", "sad")
    told = mistakes(yaml_file(GOOD), "data.labels=happy")
    start = "command line: data.labels=happy: data.labels: input should be "
    assert told == [start + "a list, such as [a, b], got 'happy'", start + "'shared', got 'happy'"]
    assert "data.labels.1: input should be a valid string" in mistakes(yaml_file(GOOD), "data.labels=[a, 2]")[0]


def test_configurations_are_frozen(yaml_file):
    config = load_config(yaml_file(GOOD))
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3


def test_the_keys_that_scripts_rely_on_are_there():
    keys = dotted_keys(Config)
    for key in ("data.root", "data.protocol", "data.fold", "train.seed", "train.epochs", "train.device",
                "train.threads", "train.output"):  # fmt: skip
        assert key in keys
