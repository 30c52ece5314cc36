"""Reading configurations: values, overrides, and one helpful line for each mistake."""

import re
from pathlib import Path

import pytest

from serx.augment.transform import BaseTransform, registered_transforms
from serx.config import Config, dump, from_tree, load_config, recipe_names, renamed, tuples
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
def test_recipes_load_and_survive_a_round_trip(path, tmp_path):
    config = load_config(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump(config))
    assert load_config(copy) == config
    assert from_tree(tuples(config.model_dump(mode="json"))) == config


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_misspelled_key_of_a_recipe_is_reported_with_its_line(path, tmp_path):
    lines = path.read_text().splitlines()
    broken, tried = tmp_path / "broken.yaml", 0
    for i, line in enumerate(lines):
        key = line.split(":")[0].strip(" -{")
        if line.startswith("#") or ":" not in line or not key.isidentifier() or key in ("kind", "base"):
            continue
        tried += 1
        broken.write_text("\n".join([*lines[:i], line.replace(key, key + "x", 1), *lines[i + 1 :]]))
        reported = mistakes(broken)
        assert any(f"broken.yaml:{i + 1}: " in r and f"{key}x" in r and "did you mean" in r for r in reported), reported
    assert tried > 3


def test_overrides_win_over_the_file_and_are_typed(yaml_file):
    config = load_config(
        yaml_file(GOOD), ["optim.lr=1e-4", "train.epochs=7", "data.root=[a, b]", "features.top_db=null"]
    )
    assert (config.optim.lr, config.train.epochs, config.data.root) == (1e-4, 7, ("a", "b"))
    assert config.features.top_db is None


LISTED = GOOD + "augment:\n  waveform:\n    - {kind: noise, p: 0.5}\n    - {kind: crop}\n    - {kind: noise}\n"


def test_an_override_reaches_an_item_of_a_list_by_number_or_kind(yaml_file):
    overrides = ["augment.waveform.0.p=0.25", "augment.waveform.crop.seconds=1.5", "augment.waveform.2={kind: gain}"]
    noise, crop, last = load_config(yaml_file(LISTED), overrides).augment.waveform
    assert (noise.p, crop.seconds, last.kind) == (0.25, 1.5, "gain")
    assert load_config(yaml_file(LISTED)).augment.waveform[0].p == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.waveform.noise.p=0", "noise is in this list more than once; give its number; the list has 0 (noise)"),
        ("augment.waveform.3.p=0", "3 is not in this list; the list has 0 (noise), 1 (crop), 2 (noise)"),
        ("augment.waveform.gain.p=0", "gain is not in this list"),
        ("augment.waveform.crop.second=1", "unknown key augment.waveform.1.second; did you mean"),
        ("augment.waveform.1.kind.x=1", "the value is 'crop', which has no key x"),
        (".".join("a" * 5000) + "=1", "is not section.key=value"),
    ],
)  # fmt: skip
def test_an_override_of_an_item_that_does_not_exist_is_an_error(override, message, yaml_file):
    [line] = mistakes(yaml_file(LISTED), override)
    assert line.startswith("command line: ") and message in line


def test_numbers_in_scientific_notation_are_numbers(yaml_file):
    for text, value in {"1e-3": 1e-3, "2E1": 2e1, "3.e-2": 3e-2, ".5e1": 5.0}.items():
        assert load_config(yaml_file(GOOD + f"optim: {{lr: {text}}}\n")).optim.lr == value


def test_scalars_are_what_they_look_like(yaml_file):
    names = ["data.protocol=speakers", "data.test_speakers=[01, 010, 7, 08]"]
    config = load_config(yaml_file(GOOD), [*names, "data.label_map={calm: no, sad: null}"])
    assert config.data.test_speakers == ("01", "010", "7", "08")
    assert config.data.label_map == {"calm": "no", "sad": None}


def test_all_mistakes_are_reported_at_once_with_their_lines(yaml_file):
    path = yaml_file(
        "data:\n  root: x\n  protocl: luna5\nmodel:\n  kind: cnn2d\n  dropout: high\ntrain:\n  epochs: 0\n  lr: 0.1\n"
    )
    lines = mistakes(path)
    assert lines[0] == f"{path}:3: unknown key data.protocl; did you mean data.protocol?"
    assert any(line.startswith(f"{path}:6: model.dropout: ") and "'high'" in line for line in lines)
    assert any(line.startswith(f"{path}:8: train.epochs: ") for line in lines)
    assert f"{path}:9: unknown key train.lr; did you mean optim.lr?" in lines
    assert len(lines) == 4


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
def test_a_wrong_override_is_reported_by_its_key(override, expected, yaml_file):
    lines = mistakes(yaml_file(GOOD), override)
    assert len(lines) == 1
    assert lines[0].startswith("command line: ")
    assert expected in lines[0]


def test_a_key_that_is_given_twice_is_an_error(yaml_file):
    path = yaml_file("data: {root: x}\nmodel: {kind: cnn1d}\ntrain:\n  epochs: 3\n  seed: 1\n  epochs: 4\n")
    assert mistakes(path) == [f"{path}:6: the key epochs is here twice (first on line 4); remove one"]


def test_a_missing_key_is_reported(yaml_file):
    assert "data.root is missing" in mistakes(yaml_file("data: {fold: 1}\nmodel: {kind: cnn1d}\n"))[0]


def test_text_that_is_not_yaml_is_reported_with_its_line(yaml_file):
    assert (
        ":2: not YAML" in mistakes(yaml_file("data: {root: x}\nmodel: [\n"))[0]
        or ":3: not YAML" in mistakes(yaml_file("data: {root: x}\nmodel: [\n"))[0]
    )


def test_a_version_of_yaml_with_thousands_of_digits_is_no_yaml(yaml_file):
    text = f"%YAML 1.{'9' * 5000}\n--- 1\n"
    assert "not YAML" in mistakes(yaml_file(text))[0]
    path = yaml_file("data: {root: x}\nmodel: {kind: cnn1d}\n")
    with pytest.raises(ConfigError, match="(?s)command line.*not YAML"):
        load_config(path, [f"optim.lr={text}"])


def test_the_error_about_a_missing_file_lists_the_files_of_its_folder(yaml_file):
    path = yaml_file(GOOD)
    assert str(path) in mistakes(path.with_name("d.yaml"))[0]


def test_an_unknown_key_of_a_transform_is_reported_with_its_line(yaml_file):
    path = yaml_file(GOOD + "augment:\n  waveform:\n    - {kind: noise, p: 0.5}\n    - {kind: noise, snr: [1, 2]}\n")
    lines = mistakes(path)
    assert lines[0].startswith(f"{path}:6: unknown key augment.waveform.1.snr")
    assert "augment.waveform.snr_db" in lines[0]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model={kind: timm, widths: [8]}", "model.widths"),
        ("model={kind: cnn1d, kernels: [3]}", "model.kernels"),
        ("augment.waveform=[{kind: noise, ratio: 2}]", "augment.waveform.0.ratio"),
    ],
)
def test_keys_of_another_kind_are_not_suggested(override, key, yaml_file):
    lines = mistakes(yaml_file(GOOD), override)
    assert len(lines) == 1 and f"unknown key {key}; " in lines[0]
    assert not lines[0].endswith(key.replace(".0", "") + "?")
    assert ("did you mean model.kernel?" in lines[0]) == ("kernels" in key)


def test_a_list_of_features_is_short_for_a_stack(yaml_file):
    config = load_config(yaml_file(GOOD + "features: [mfcc, chroma]\n"), ["features.hop_length=160"])
    assert (config.features.stack, config.features.hop_length) == (("mfcc", "chroma"), 160)
    assert load_config(yaml_file(GOOD), ["features=[rms, zcr]"]).features.stack == ("rms", "zcr")


def test_a_misspelled_feature_in_a_list_is_reported_with_its_line(yaml_file):
    path = yaml_file(GOOD + "features:\n  - mfcc\n  - chrome\n")
    lines = mistakes(path)
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}:5: features.stack.1: ") and "'chrome'" in lines[0]


def test_mel_warp_of_features_that_it_cannot_warp_is_an_error(yaml_file):
    path = yaml_file(GOOD + "features: [mfcc, chroma]\naugment: {mel_warp: {p: 0.5, rate: [0.9, 1.1]}}\n")
    lines = mistakes(path)
    assert len(lines) == 1 and lines[0].startswith(f"{path}:4: augment.mel_warp") and "chroma" in lines[0]
    assert load_config(path, ["features=[mfcc]"]).augment.mel_warp.rate == (0.9, 1.1)
    assert "write [low, high]" in mistakes(path, "augment.mel_warp.rate=[1.1, 0.9]")[0]


WAVEFORM = "data: {root: x}\nfeatures: {stack: [waveform], normalize: none}\nmodel: {kind: speech_encoder}\n"


@pytest.mark.parametrize(
    ("override", "place", "message"),
    [
        ("features={stack: [logmel]}", "command line", "features.stack: [waveform]"),
        ("augment.spectrogram=[{kind: time_mask}]", "command line", "augment.spectrogram"),
        ("augment.mel_warp={p: 0.5}", "command line", "augment.mel_warp"),
        ("augment.mixstyle=0.5", "command line", "augment.mixstyle"),
        ("data.sample_rate=8000", "command line", "16000 Hz"),
        ("features.normalize=clip", ":2: features", "normalize: none"),
        ("features.stack=[waveform, rms]", ":2: features", "alone"),
        ("model.source=WAVLM_BASE_PLUS", "command line", "microsoft/wavlm-base-plus"),
        ("model.bundle=openai/whisper-base", "command line", "model.bundle is now called model.source"),
        ("model.mask_time=[2, 0]", "command line", "[2, 10]"),
        ("model.tune=ful", "command line", "'full'"),
    ],
)
def test_settings_that_a_speech_encoder_cannot_use_are_reported_where_they_are_written(
    override, place, message, yaml_file
):
    assert load_config(yaml_file(WAVEFORM)).features.bins == 1
    lines = mistakes(yaml_file(WAVEFORM), override)
    assert len(lines) == 1 and place in lines[0] and message in lines[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.select=uar", "train.select is uar, but there is no validation (data.valid_fraction: 0); write last"),
        ("train.select=loss", "train.select is loss"),
        ("optim.schedule=plateau", "write onecycle"),
        ("model={kind: classical, c: [0.01, 0.1]}", "lists 2 values"),
    ],
)
def test_settings_that_need_validation_are_errors_without_validation(override, message, yaml_file):
    path = yaml_file("data: {root: x, valid_fraction: 0}\nmodel: {kind: cnn2d}\ntrain: {select: last}\n")
    assert load_config(path).data.valid_fraction == 0
    lines = mistakes(path, override)
    assert len(lines) == 1 and lines[0].startswith("command line") and message in lines[0]
    validation = ["data.protocol=speakers", "data.test_speakers=[1]", "data.valid_speakers=[2]"]
    assert load_config(path, ["train.select=uar", override, *validation])


@pytest.mark.parametrize(
    ("override", "message"),
    [("train.patience=3", "or leave patience out"), ("optim.schedule=plateau", "or another schedule")],
)
def test_waiting_for_a_better_epoch_is_an_error_if_the_last_epoch_is_selected(override, message, yaml_file):
    path = yaml_file("data: {root: x}\nmodel: {kind: cnn2d}\ntrain: {select: loss}\n")
    assert load_config(path, [override])
    [line] = mistakes(path, "train.select=last", override)
    assert line.startswith(f"command line: {override}") and "select uar or loss" in line and line.endswith(message)


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("data.test_speakers=[7]", "speakers"),
        ("data.valid_speakers=[7]", "speakers"),
        ("data.test_corpora=[tess]", "cross_corpus"),
    ],
)
def test_speakers_listed_for_another_protocol_are_an_error(override, right, yaml_file):
    path = yaml_file(GOOD)
    for protocol in ("luna5", "kfold", "random", "manifest", "speakers", "loco", "cross_corpus"):
        if protocol != right:
            [line] = mistakes(path, override, f"data.protocol={protocol}")
            assert line.startswith(f"command line: {override}") and f"write protocol: {right}" in line
    assert load_config(path, [override, f"data.protocol={right}"])


def test_only_one_setting_may_compensate_for_rare_classes(yaml_file):
    path = yaml_file(GOOD + "train: {logit_adjustment: 1.0}\n")
    assert load_config(path).train.logit_adjustment == 1
    lines = mistakes(path, "train.class_weights=balanced")
    assert len(lines) == 1 and lines[0].startswith(f"{path}:3: train.logit_adjustment and train.class_weights both")
    assert "has no effect with model.kind classical" in mistakes(path, "model={kind: classical}")[0]


def test_augmented_copies_need_vectors_and_something_that_augments(yaml_file):
    noise, vectors = "augment.waveform=[{kind: noise}]", "features.statistics=[mean]"
    path = yaml_file(GOOD + "augment: {copies: 4}\n")
    assert load_config(path, [noise, vectors]).augment.copies == 4
    assert load_config(path, ["augment.mel_warp={p: 0.5}", vectors]).augment.copies == 4
    assert load_config(path, ["augment.copies=0"]).augment.copies == 0
    for given, reason in (
        ((noise,), "features.statistics is empty"),
        ((vectors,), "augment.waveform is empty"),
        ((noise, vectors, "features.front_end=nnaudio", "features.trainable=true"), "features.trainable changes them"),
    ):
        lines = mistakes(path, *given)
        assert len(lines) == 1 and "augment.copies" in lines[0] and reason in lines[0] and "copies: 0" in lines[0]
    assert "has no effect with model.kind classical" in mistakes(path, noise, vectors, "model={kind: classical}")[0]


def test_labels_are_a_list_or_the_word_shared(yaml_file):
    assert load_config(yaml_file(GOOD), ["data.labels=shared"]).data.labels == "shared"
    assert load_config(yaml_file(GOOD), ["data.labels=[happy, sad]"]).data.labels == ("happy", "sad")
    lines = mistakes(yaml_file(GOOD), "data.labels=happy")
    start = "command line: data.labels=happy: data.labels: input should be "
    assert lines == [start + "a list, such as [a, b], got 'happy'", start + "'shared', got 'happy'"]
    assert "data.labels.1: input should be a valid string" in mistakes(yaml_file(GOOD), "data.labels=[a, 2]")[0]


def test_configurations_are_frozen(yaml_file):
    config = load_config(yaml_file(GOOD))
    with pytest.raises(ValueError, match="frozen"):
        config.train.epochs = 3


def test_dotted_keys_list_the_keys_that_commands_set():
    keys = dotted_keys(Config)
    for key in ("data.root", "data.protocol", "data.fold", "train.seed", "train.epochs", "train.device",
                "train.threads", "train.output"):  # fmt: skip
        assert key in keys


def test_overrides_may_be_strings_lists_and_dicts(yaml_file):
    path = yaml_file(LISTED)
    config = load_config(
        path, "optim.lr=1e-4", ["train.epochs=7"], {"data.root": ["a", "b"], "augment.waveform.crop.seconds": 0.5}
    )
    assert (config.optim.lr, config.train.epochs, config.data.root) == (1e-4, 7, ("a", "b"))
    assert config.augment.waveform[1].seconds == 0.5
    with pytest.raises(ConfigError, match=r"override: train\.epochs='x': train\.epochs: input should be"):
        load_config(path, {"train.epochs": "x"})


def test_contradictions_are_reported_together_with_other_mistakes(yaml_file):
    path = yaml_file(
        "data: {root: x, valid_fraction: 0, test_speakers: [1]}\n"
        "features: [mfcc, chroma]\n"
        "augment: {mel_warp: {p: 0.5}, mixup: -1}\n"
        "model: {kind: cnn1d, widht: 3}\n"
        "train: {select: uar, logit_adjustment: 1.0, class_weights: balanced}\n"
    )
    lines = mistakes(path)
    expected = [
        "3: augment.mixup: input should be greater than or equal to 0, got -1",
        "4: unknown key model.widht; did you mean model.widths?",
        "1: data.test_speakers needs data.protocol: speakers",
        "5: train.select is uar, but there is no validation",
        "3: augment.mel_warp warps mel, logmel and mfcc",
        "5: train.logit_adjustment and train.class_weights both",
    ]
    assert [line.startswith(f"{path}:{start}") for line, start in zip(lines, expected, strict=True)] == [True] * 6, (
        lines
    )


def test_a_mistake_causes_no_contradiction_with_a_default(yaml_file):
    path = yaml_file("data: {root: x, valid_fraction: 0}\nmodel: {kind: cnn1d}\ntrain: {select: lost}\n")
    [line] = mistakes(path)
    assert line.startswith(f"{path}:3: train.select: input should be")
    assert len(mistakes(yaml_file("data: {root: x}\nmodel: {kind: speech_encodr}\n"))) == 1


OLD = """\
data: {root: x, valid_share: 0.2}
augment:
  waveform: [{kind: polarity}, {kind: reverb, direct_db: [0, 10]}]
  spectrogram: [{kind: time_mask, share: 0.3}]
  fused: {p: 0.5}
model: {kind: cnn2d, members: 2, relax: 0.5}
train: {sampling: both, precision: native}
"""


def test_old_names_are_errors_that_name_the_new_ones(yaml_file):
    path = yaml_file(OLD)
    assert mistakes(path, "optim.warmup=0.1") == [
        f"{path}:1: data.valid_share is now called data.valid_fraction",
        f"{path}:3: augment.waveform: polarity is now called polarity_inversion",
        f"{path}:3: augment.waveform: direct_db is now called drr_db",
        f"{path}:4: augment.spectrogram: share is now called max_fraction",
        f"{path}:5: augment.fused is now called augment.mel_warp",
        f"{path}:6: model.members is now called model.ensemble_size",
        f"{path}:6: model.relax is now called model.relaxed_freq_norm",
        f"{path}:7: train.sampling: both is now called corpus_and_class_balanced",
        f"{path}:7: train.precision: native is now called bf16_if_native",
        "command line: optim.warmup=0.1: optim.warmup is now called optim.warmup_ratio",
    ]


@pytest.mark.parametrize("override", ["augment.waveform.polarity.p=1", "augment.waveform.room_files.p=1"])
def test_an_override_by_the_old_kind_of_a_transform_names_the_new_one(override, yaml_file):
    [line] = mistakes(yaml_file(LISTED), override)
    assert line.startswith(f"command line: {override}") and "is now called" in line


def test_every_new_name_of_the_table_exists():
    keys, kinds = dotted_keys(Config), {*registered_transforms(BaseTransform), "mel_warp"}
    assert set(renamed.RENAMED_KEYS.values()) <= set(keys) and set(renamed.RENAMED_KEYS).isdisjoint(keys)
    assert set(renamed.RENAMED_TRANSFORMS.values()) <= kinds and set(renamed.RENAMED_TRANSFORMS).isdisjoint(kinds)
    assert set(renamed.RENAMED_RECIPES.values()) <= set(recipe_names())


def test_a_recipe_is_found_by_its_name_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("cnn2d", "data.root=x") == load_config(
        Path(__file__).parents[2] / "configs/cnn2d.yaml", "data.root=x"
    )
    assert load_config("published/ravdess_mlp").model.kind == "mlp"
    (tmp_path / "cnn2d").mkdir()
    assert load_config("cnn2d").model.kind == "cnn2d"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnn2dd", "did you mean cnn2d? "),
        ("configs/cnn2d.yaml", "did you mean cnn2d? "),
        ("best", "the recipe best is now called cnn2d_ensemble"),
        ("configs/joined.yaml", "the recipe joined is now called cross_corpus"),
        ("nothing", "recipes are cnn1d, "),
    ],
)
def test_the_error_about_an_unknown_recipe_names_a_recipe(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"^{re.escape(name)}: no such file or recipe; ") as caught:
        load_config(name)
    assert message in str(caught.value)


def test_a_recipe_holds_only_what_differs_from_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text(LISTED + "train:\n  epochs: 3\n  seed: 4\n")
    child = tmp_path / "child.yaml"
    child.write_text("base: base.yaml\naugment:\n  waveform: [{kind: gain}]\ntrain: {epochs: 5}\n")
    config = load_config(child)
    assert (config.data.root, config.train.epochs, config.train.seed) == ("somewhere", 5, 4)
    assert [transform.kind for transform in config.augment.waveform] == ["gain"]
    grandchild = tmp_path / "grandchild.yaml"
    grandchild.write_text("base: child.yaml\nmodel: {kind: mlp}\n")
    assert load_config(grandchild).model == type(load_config("mlp").model)()
    assert load_config(grandchild).train.epochs == 5


def test_a_base_may_be_a_recipe_by_name(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: cnn2d\ndata: {root: x}\n")
    assert load_config(path) == load_config("cnn2d", "data.root=x")


def test_a_mistake_in_a_base_is_reported_with_the_file_of_the_base(tmp_path):
    (tmp_path / "base.yaml").write_text(GOOD + "train:\n  epochs: 0\n  sed: 1\n")
    child = tmp_path / "child.yaml"
    child.write_text("base: base.yaml\noptim: {rl: 1}\n")
    assert [line.partition(": ")[0] for line in mistakes(child)] == [
        f"{child}:2",
        f"{tmp_path / 'base.yaml'}:4",
        f"{tmp_path / 'base.yaml'}:5",
    ]
    child.write_text("base: base.yaml\ntrain: {epochs: 1, sed: 2}\n")
    assert [line.partition(": ")[0] for line in mistakes(child)] == [f"{child}:2"]


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("c.yaml", "base: these recipes are based on each other: c.yaml -> c.yaml; remove one base"),
        ("b.yaml", "base: these recipes are based on each other: c.yaml -> b.yaml -> c.yaml; remove one base"),
        ("[cnn2d]", "base: ('cnn2d',) should be the file or the name of a recipe"),
        ("cnn3d", "base: cnn3d: no such file or recipe; did you mean cnn"),
        ("x" * 5000, "no such file or recipe"),
        ('"\\0.yaml"', "no such file"),
    ],
)
def test_a_base_that_cannot_be_used_is_reported_with_its_line(base, message, yaml_file):
    path = yaml_file(f"{GOOD}base: {base}\n")
    (path.parent / "b.yaml").write_text("base: c.yaml\n")
    [line] = mistakes(path)
    assert line.startswith((f"{path}:3: ", f"{path.parent / 'b.yaml'}:1: ")) and message in line
