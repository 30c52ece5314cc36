"""Old names of configuration keys, values, transforms and recipes.

Errors name the new one, and checkpoints of format 1 are read with them.
"""

from collections.abc import Mapping
from typing import Any

from serx.config.yaml_lines import KeyPath

# Dotted keys.
RENAMED_KEYS = {
    "data.test_share": "data.test_fraction",
    "data.valid_share": "data.valid_fraction",
    "augment.fused": "augment.mel_warp",
    "model.members": "model.ensemble_size",
    "model.shared": "model.shared_stages",
    "model.speeds": "model.tta_speeds",
    "model.relax": "model.relaxed_freq_norm",
    "model.enrol": "model.adapt",
    "model.encoder_rate": "model.encoder_lr_scale",
    "model.bundle": "model.source",
    "optim.warmup": "optim.warmup_ratio",
    "optim.final": "optim.final_lr_ratio",
    "train.ema": "train.ema_decay",
    "train.accumulate": "train.accumulation_steps",
    "train.clip_norm": "train.clip_grad_norm",
}
# Values, by the key's new name.
RENAMED_VALUES = {
    "train.precision": {"native": "bf16_if_native"},
    "train.sampling": {"balanced": "class_balanced", "both": "corpus_and_class_balanced"},
}
# Kinds of transform.
RENAMED_TRANSFORMS = {
    "noise_files": "background_noise",
    "room_files": "impulse_response",
    "polarity": "polarity_inversion",
    "fused": "mel_warp",
}
# Keys of a transform, by its kind.
RENAMED_TRANSFORM_KEYS = {
    "time_mask": {"share": "max_fraction"},
    "reverb": {"direct_db": "drr_db"},
}
RENAMED_RECIPES = {
    "baseline": "logistic_regression",
    "best": "cnn2d_ensemble",
    "joined": "cross_corpus",
    "speech_encoder": "encoder_probe",
    "speech_encoder_tuned": "encoder_tuned",
}


def modernize(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with old names -> the same with today's. Other names stay as they are.

    >>> modernize({"model": {"kind": "cnn2d", "members": 2}, "augment": {"waveform": [{"kind": "polarity"}]}})
    {'model': {'kind': 'cnn2d', 'ensemble_size': 2}, 'augment': {'waveform': [{'kind': 'polarity_inversion'}]}}
    """
    return renamed(tree)[0]


def renamed(tree: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[KeyPath, str]]]:
    """The tree with today's names, and for each old one its place and a message that names the new one.

    >>> renamed({"train": {"precision": "native"}})[1]
    [(('train', 'precision'), 'train.precision: native is now called bf16_if_native')]
    """
    current: dict[str, Any] = {}
    notes: list[tuple[KeyPath, str]] = []
    for section, keys in tree.items():
        if not isinstance(keys, Mapping):
            current[section] = keys
            continue
        current[section] = {}
        for key, value in keys.items():
            old = f"{section}.{key}"
            dotted = RENAMED_KEYS.get(old, old)
            if dotted != old:
                notes.append(((section, key), f"{old} is now called {dotted}"))
            current[section][dotted.partition(".")[2]] = _current_value((section, key), dotted, value, notes)
    return current, notes


def _current_value(place: KeyPath, dotted: str, value: Any, notes: list[tuple[KeyPath, str]]) -> Any:
    if isinstance(value, str):
        return _rename(place, dotted, value, RENAMED_VALUES.get(dotted, {}), notes)
    if dotted in ("augment.waveform", "augment.spectrogram") and isinstance(value, list | tuple):
        return type(value)(_current_transform((*place, i), dotted, item, notes) for i, item in enumerate(value))
    return _current_transform(place, dotted, value, notes) if dotted == "augment.mel_warp" else value


def _current_transform(place: KeyPath, dotted: str, item: Any, notes: list[tuple[KeyPath, str]]) -> Any:
    if not isinstance(item, Mapping):
        return item
    current = {}
    kind = item.get("kind")
    for key, value in item.items():
        new_key = _rename((*place, key), dotted, key, RENAMED_TRANSFORM_KEYS.get(str(kind), {}), notes)
        is_old = key == "kind" and isinstance(value, str)
        current[new_key] = _rename((*place, key), dotted, value, RENAMED_TRANSFORMS, notes) if is_old else value
    return current


def _rename(place: KeyPath, dotted: str, name: str, table: Mapping[str, str], notes: list[tuple[KeyPath, str]]) -> str:
    new = table.get(name, name)
    if new != name:
        notes.append((place, f"{dotted}: {name} is now called {new}"))
    return new
