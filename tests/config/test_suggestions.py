"""An unknown key is answered with the key that was meant, or with the keys of its section."""

import pytest

from serx.config import load_config
from serx.config.schema import Config, dotted_keys
from serx.config.suggestions import _IN_SECTION, _NAMES, _WORDS
from serx.errors import ConfigError


def answer(key: str, value: str = "1") -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("cnn2d", f"{key}={value}")
    return str(caught.value).partition("unknown key ")[2].partition("; ")[2]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("optim.learning_rate", "optim.lr"),
        ("lr", "optim.lr"),
        ("train.lr", "optim.lr"),
        ("train.bs", "train.batch_size"),
        ("train.batch", "train.batch_size"),
        ("data.batch_size", "train.batch_size"),
        ("train.n_epochs", "train.epochs"),
        ("train.max_epochs", "train.epochs"),
        ("train.amp", "train.precision"),
        ("train.mixed_precision", "train.precision"),
        ("train.fp16", "train.precision"),
        ("train.early_stopping", "train.patience"),
        ("optim.wd", "optim.weight_decay"),
        ("train.weight_decay", "optim.weight_decay"),
        ("train.metric", "train.select"),
        ("train.gpu", "train.device"),
        ("train.cuda", "train.device"),
        ("data.num_workers", "train.threads"),
        ("train.scheduler", "optim.schedule"),
        ("train.dropout", "model.dropout"),
        ("data.path", "data.root"),
        ("data.dir", "data.root"),
        ("train.output_dir", "train.output"),
        ("train.save_dir", "train.output"),
        ("train.random_state", "train.seed"),
        ("data.sr", "data.sample_rate"),
        ("features.sample_rate", "data.sample_rate"),
        ("data.n_mels", "features.n_mels"),
        ("features.fmax", "features.f_max"),
        ("data.test_size", "data.test_fraction"),
        ("train.val_split", "data.valid_fraction"),
        ("train.grad_clip", "train.clip_grad_norm"),
        ("model.hidden_size", "model.widths"),
        ("model.name", "model.kind"),
        ("model.stride", "model.strides"),
        ("train.epochz", "train.epochs"),
        ("optim.rl", "optim.lr"),
        ("features.kind", "features.stack"),
        ("features.name", "features.stack"),
        ("data.name", "data.corpora"),
        ("data.kfold", "data.protocol"),
        ("data.loso", "data.protocol"),
        ("train.pretrained", "train.init_from"),
        ("train.ckpt", "train.init_from"),
        ("train.init_checkpoint", "train.init_from"),
        ("train.wandb", "train.loggers"),
        ("train.tensorboard", "train.loggers"),
        ("train.distill", "train.teachers"),
        ("train.max_steps", "train.epochs"),
        ("model.filters", "model.widths"),
    ],
)
def test_a_name_of_another_trainer_is_answered_with_the_key(given, meant):
    assert answer(given) == f"did you mean {meant}?"


@pytest.mark.parametrize(
    ("given", "value", "text"),
    [
        ("train.optimizer", "adam", "serx trains with AdamW"),
        ("optim.name", "sgd", "serx trains with AdamW"),
        ("train.loss", "focal", "the loss is cross-entropy"),
        ("train.augment", "true", "did you mean augment.waveform, a list such as"),
        ("augment.speed", "1", "write it as an item of augment.waveform: [{kind: speed"),
        ("train.resume", "true", "write --resume"),
        ("training", "{epochs: 3}", "did you mean train?"),
        ("optimizer", "{lr: 3}", "did you mean optim?"),
    ],
)
def test_what_is_no_key_is_answered_with_what_to_do(given, value, text):
    assert text in answer(given, value)


@pytest.mark.parametrize("given", ["train.xyzzy", "optim.eps", "train.log_interval", "augment.enabled", "model.qqq"])
def test_no_key_is_suggested_for_a_word_unlike_any(given):
    section = given.partition(".")[0]
    assert answer(given).startswith(f"the keys of {section} are ")


def test_every_name_of_the_table_leads_to_keys_that_exist():
    keys = {*_NAMES, *(key for words in _IN_SECTION.values() for key in words.values())}
    assert keys <= set(dotted_keys(Config))
    assert {word: keys for word, keys in _WORDS.items() if len(keys) > 1} == {}
