"""Old names of configuration keys, values and transforms: for errors that name the new one, and for old checkpoints."""

from collections.abc import Mapping
from typing import Any

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


def modernize(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with old names -> the same with today's. Other names stay as they are.

    >>> modernize({"model": {"kind": "cnn2d", "members": 2}, "augment": {"waveform": [{"kind": "polarity"}]}})
    {'model': {'kind': 'cnn2d', 'ensemble_size': 2}, 'augment': {'waveform': [{'kind': 'polarity_inversion'}]}}
    """
    modern: dict[str, Any] = {}
    for section, keys in tree.items():
        if not isinstance(keys, Mapping):
            modern[section] = keys
            continue
        modern[section] = {}
        for old, value in keys.items():
            dotted = RENAMED_KEYS.get(f"{section}.{old}", f"{section}.{old}")
            modern[section][dotted.partition(".")[2]] = _modern_value(dotted, value)
    return modern


def _modern_value(dotted: str, value: Any) -> Any:
    if isinstance(value, str):
        return RENAMED_VALUES.get(dotted, {}).get(value, value)
    if dotted in ("augment.waveform", "augment.spectrogram") and isinstance(value, list | tuple):
        return type(value)(_modern_transform(item) for item in value)
    return _modern_transform(value) if dotted == "augment.mel_warp" else value


def _modern_transform(item: Any) -> Any:
    if not isinstance(item, Mapping):
        return item
    kind = RENAMED_TRANSFORMS.get(item.get("kind", ""), item.get("kind"))
    keys = RENAMED_TRANSFORM_KEYS.get(str(kind), {})
    return {keys.get(key, key): kind if key == "kind" else value for key, value in item.items()}
