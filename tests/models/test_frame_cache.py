"""Frames of a frozen encoder that are kept on disk: the same results as encoding, and nothing is encoded twice."""

import sqlite3

import numpy as np
import pytest
import torch

from serx.config.loader import load_config
from serx.errors import ConfigError, DiskError
from serx.models.encoders import load_encoder, resolve_encoder
from serx.models.frame_cache import FrameCache, frame_bytes
from serx.models.vector_cache import VectorCache
from serx.run import fit

KINDS = ["whisper", "wav2vec2", "wavlm", "data2vec"]


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three clips of noise, padded."""
    lengths = torch.tensor([4000, 9000, 1200])
    noise = 0.1 * torch.randn(3, 10_000, generator=torch.Generator().manual_seed(0))
    return noise * (torch.arange(10_000) < lengths[:, None]), lengths


@pytest.fixture
def encoder_of(encoder_folder):
    return lambda kind: load_encoder(resolve_encoder(str(encoder_folder(kind)), None)).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_kept_frames_are_those_of_the_encoder_in_half_precision(kind, encoder_of, tmp_path, encoded):
    encoder, (waveform, lengths) = encoder_of(kind), batch()
    expected, expected_frames = encoder(waveform, lengths)
    new, known = FrameCache(encoder, tmp_path)(waveform, lengths), FrameCache(encoder, tmp_path)(waveform, lengths)
    assert encoded == 2 * [4000, 9000, 1200]  # the encoder itself, and new clips
    for states, frames in (new, known):
        assert torch.equal(frames, expected_frames) and len(states) == encoder.depth + 1
        for state, exact in zip(states, expected, strict=True):
            for own, whole, count in zip(state, exact, frames.tolist(), strict=True):
                torch.testing.assert_close(own[:count], whole[:count], rtol=2e-3, atol=2e-4)  # 11 bits
                assert not own[count:].any()
    assert all(torch.equal(a, b) for a, b in zip(new[0], known[0], strict=True))


def test_the_size_on_disk_is_that_of_the_estimate(encoder_of, tmp_path):
    encoder, (waveform, lengths) = encoder_of("whisper"), batch()
    cache = FrameCache(encoder, tmp_path)
    cache(waveform, lengths)
    with sqlite3.connect(cache.cache.path) as connection:
        [(kept,)] = connection.execute("SELECT sum(length(vector)) FROM vectors").fetchall()
    assert 0.9 * kept <= frame_bytes(encoder, lengths) <= 1.15 * kept


def test_states_beyond_half_precision_are_computed_anew_and_not_rounded(encoder_of, tmp_path, encoded):
    encoder, (waveform, lengths) = encoder_of("whisper"), batch()
    encoder.layer_norm.weight.fill_(1e6)
    expected = encoder(waveform, lengths)[0][-1]
    cache = FrameCache(encoder, tmp_path)
    for _ in range(2):
        states, frames = cache(waveform, lengths)
        torch.testing.assert_close(states[-1][0, : frames[0]], expected[0, : frames[0]], rtol=1e-4, atol=10)
    assert len(encoded) == 9


def test_rows_of_another_size_are_not_used(tmp_path):
    clip, rows = np.ones(100, np.float32), np.ones((4, 6), np.float16)
    VectorCache(tmp_path / "a.sqlite", 6, np.float16, rows=True).put([clip], [rows])
    [found] = VectorCache(tmp_path / "a.sqlite", 6, np.float16, rows=True).get([clip])
    np.testing.assert_array_equal(found, rows)
    assert VectorCache(tmp_path / "a.sqlite", 7, np.float16, rows=True).get([clip]) == [None]
    assert VectorCache(tmp_path / "a.sqlite", 6, np.float16).get([clip]) == [None]


@pytest.fixture
def frozen(tiny_root, tmp_path, encoder_folder):
    """A function from overrides to a recipe with attentive pooling of a frozen encoder, and its own caches."""

    def configure(*overrides: str):
        path = tmp_path / "frozen.yaml"
        path.write_text(
            f"data: {{root: {tiny_root}, cache: {tmp_path / 'cache'}, protocol: speakers, test_speakers: [5, 6], "
            "valid_speakers: [4]}\n"
            "features: {stack: [waveform], normalize: none}\n"
            f"model: {{kind: speech_encoder, source: {encoder_folder('whisper')}, embedding: 12}}\n"
            "train: {epochs: 3, batch_size: 16}\n"
        )
        return load_config(path, overrides)

    return configure


def test_training_encodes_each_clip_once_and_another_seed_none(frozen, tmp_path, encoded, capsys):
    plain = fit(frozen(), tmp_path / "plain", progress=False)
    assert len(encoded) > 3 * 48
    encoded.clear()
    kept = fit(frozen("model.cache_frames=true"), tmp_path / "kept", progress=False)
    assert len(encoded) == 48  # 36 training and 12 validation clips
    assert "MB for 48 clips, are kept in" in capsys.readouterr().out
    encoded.clear()
    again = fit(frozen("model.cache_frames=true", "train.seed=1"), tmp_path / "again", progress=False)
    assert encoded == [] and again.folder != kept.folder
    uars = [run.evaluate(progress=False).uar for run in (plain, kept)]
    assert abs(uars[0] - uars[1]) < 0.2


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(frozen, tmp_path, monkeypatch):
    monkeypatch.setattr("serx.training.state.free_bytes", lambda _: 1000)
    with pytest.raises(DiskError, match="the frames of 48 clips take .* set model.cache_frames=false") as caught:
        fit(frozen("model.cache_frames=true"), tmp_path / "run", progress=False)
    assert "\n" not in str(caught.value) and not list((tmp_path / "cache").rglob("*.frames.sqlite"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.tune=full", "needs tune: frozen"),
        ("model.pooling=statistics", "needs tune: frozen and pooling: attentive"),
        ("model.mask_time=[1, 5]", "mask each clip anew"),
        ("augment.waveform=[{kind: noise}]", "augment.waveform changes these in each epoch"),
        ("augment.mixup=0.2", "augment.mixup changes these in each epoch"),
    ],
)
def test_what_changes_clips_in_each_epoch_is_refused(frozen, override, message):
    with pytest.raises(ConfigError, match=message):
        frozen("model.cache_frames=true", override)
