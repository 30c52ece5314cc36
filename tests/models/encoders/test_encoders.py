"""Encoders: transformers' numbers for a clip alone, and nothing else for a clip among others."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from serx.models.encoders import Encoder, EncoderOptions, load_encoder, resolve_encoder
from serx.models.encoders.layers import InputMasks
from serx.models.encoders.wav2vec2 import standardize
from serx.models.encoders.whisper import WhisperMel
from tests.conftest import ENCODERS, tiny_encoder

RATE = 16_000
WITHOUT_WHISPER = [kind for kind in ENCODERS if kind != "whisper"]


def encoder_of(folder: Path, **options) -> Encoder:
    return load_encoder(resolve_encoder(str(folder)), EncoderOptions(**options)).eval()


def random_clips(lengths: list[int], width: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor(lengths)
    width = width or max(lengths)
    waveform = 0.1 * torch.randn(len(lengths), width, generator=torch.Generator().manual_seed(1))
    waveform *= torch.logspace(-1, 0, len(lengths))[:, None]
    return waveform * (torch.arange(width) < counts[:, None]), counts


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Equal up to `tolerance`, relative to the largest magnitude above 1."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("kind", WITHOUT_WHISPER)
@torch.inference_mode()
def test_the_states_of_a_clip_alone_equal_transformers(kind, encoder_folder):
    encoder, reference = encoder_of(encoder_folder(kind)), tiny_encoder(kind)
    waveform, lengths = random_clips([4003])
    states, frames = encoder(waveform, lengths)
    expected = reference(standardize(waveform, lengths), output_hidden_states=True)
    assert len(states) == 1 + encoder.depth == len(expected.hidden_states) == 5
    assert frames.tolist() == [expected.last_hidden_state.shape[1]]
    for ours, theirs in zip(states[:-1], expected.hidden_states[:-1], strict=True):
        assert_near(ours, theirs)
    assert_near(states[-1], expected.last_hidden_state)
    assert states[0].shape == (1, int(frames), encoder.width)


@pytest.mark.parametrize("kind", ["xls-r", "wavlm-large"])
@torch.inference_mode()
def test_models_with_layer_norms_equal_transformers_in_a_padded_batch_too(kind, encoder_folder):
    encoder, reference = encoder_of(encoder_folder(kind)), tiny_encoder(kind)
    waveform, lengths = random_clips([4003, 2500, 900])
    states, frames = encoder(waveform, lengths)
    mask = (torch.arange(waveform.shape[1]) < lengths[:, None]).long()
    expected = reference(standardize(waveform, lengths), attention_mask=mask)
    for clip, count in enumerate(frames):
        assert_near(states[-1][clip, :count], expected.last_hidden_state[clip, :count])


@torch.inference_mode()
def test_standardization_equals_the_feature_extractor_of_transformers():
    waveform, lengths = random_clips([4000, 1500])
    extract = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=True)
    clips = [row[:n].numpy() for row, n in zip(waveform, lengths, strict=True)]
    expected = extract(clips, sampling_rate=RATE, padding=True, return_tensors="pt").input_values
    assert_near(standardize(waveform, lengths), expected, 1e-4)


@torch.inference_mode()
def test_a_model_without_normalization_reads_the_waveform_as_it_is(encoder_folder, tmp_path):
    reference = tiny_encoder("wav2vec2")
    reference.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    waveform, lengths = random_clips([4000])
    assert_near(encoder_of(tmp_path)(waveform, lengths)[0][-1], reference(waveform).last_hidden_state)


@pytest.mark.parametrize("bins", [80, 128])
def test_log_mels_equal_the_feature_extractor_of_transformers(bins, clips):
    extract = transformers.WhisperFeatureExtractor(feature_size=bins, chunk_length=3)
    expected = torch.from_numpy(extract(clips, sampling_rate=RATE, return_tensors="np").input_features)
    waveform = torch.stack(
        [torch.nn.functional.pad(torch.from_numpy(clip), (0, 3 * RATE - len(clip))) for clip in clips]
    )
    mel, frames = WhisperMel(bins)(waveform, torch.full((len(clips),), 3 * RATE))
    assert frames.tolist() == [300] * len(clips)
    assert (mel.transpose(1, 2) - expected).abs().max() < 1e-4
    for clip, theirs in zip(clips, expected, strict=True):
        alone, frames = WhisperMel(bins)(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))
        assert alone.shape[1] == frames == len(clip) // 160
        assert (alone[0].T - theirs[:, : int(frames)]).abs().max() < 1e-4


@torch.inference_mode()
def test_whisper_padded_to_its_window_equals_transformers(encoder_folder):
    folder = encoder_folder("whisper")
    encoder, reference = encoder_of(folder, pad_seconds=1.0), tiny_encoder("whisper").encoder
    extract = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    waveform, lengths = random_clips([15_900, 9003, 4000])
    clips = [row[:n].numpy() for row, n in zip(waveform, lengths, strict=True)]
    mel = extract(clips, sampling_rate=RATE, return_tensors="pt").input_features
    expected = reference(mel, output_hidden_states=True)
    states, frames = encoder(waveform, lengths)
    assert frames.tolist() == [50, 28, 13]
    for ours, theirs in zip(states, expected.hidden_states, strict=True):
        assert_near(ours, theirs)
    assert_near(states[-1], expected.last_hidden_state)


def whisper_at_true_length(reference: torch.nn.Module, mel: torch.Tensor) -> torch.Tensor:
    """The last state of transformers' modules for `mel (1, F, N)`, with no more positions than frames."""
    x = torch.nn.functional.gelu(reference.conv1(mel))
    x = torch.nn.functional.gelu(reference.conv2(x)).transpose(1, 2)
    x = x + reference.embed_positions.weight[: x.shape[1]]
    for layer in reference.layers:
        x = layer(x, None)
    return reference.layer_norm(x[0] if isinstance(x, tuple) else x)


@torch.inference_mode()
def test_whisper_at_the_length_of_a_clip_equals_the_same_modules_with_fewer_positions(encoder_folder):
    encoder, reference = encoder_of(encoder_folder("whisper")), tiny_encoder("whisper").encoder
    waveform, lengths = random_clips([9007])
    mel, _ = encoder.mel(waveform, lengths)
    states, frames = encoder(waveform, lengths)
    assert states[-1].shape[1] == int(frames) == 28
    assert_near(states[-1], whisper_at_true_length(reference, mel.transpose(1, 2)))


LENGTHS = [4000, 1200, 30, 1, 2501, 3999, 800, 801, 5999, 6400]


@pytest.mark.parametrize("pad_seconds", [None, 0.3])
@pytest.mark.parametrize("kind", ENCODERS)
@torch.inference_mode()
def test_states_do_not_depend_on_padding_or_on_other_clips_in_the_batch(kind, pad_seconds, encoder_folder):
    encoder = encoder_of(encoder_folder(kind), pad_seconds=pad_seconds)
    waveform, lengths = random_clips(LENGTHS, 7000)
    together, frames = encoder(waveform, lengths)
    for clip, length in enumerate(lengths.tolist()):
        alone, count = encoder(waveform[clip : clip + 1, :length], lengths[clip : clip + 1])
        assert int(count) == frames[clip]
        for ours, among_others in zip(alone, together, strict=True):
            assert_near(ours[0, : int(count)], among_others[clip, : int(count)])
    assert together[-1][:, 0].std(0).max() > 0.1


@torch.inference_mode()
def test_a_clip_longer_than_whispers_positions_is_encoded_in_windows(encoder_folder):
    encoder = encoder_of(encoder_folder("whisper"))  # its positions are those of one second
    waveform, lengths = random_clips([40_000, 9000, 16_000, 16_400], 45_000)
    states, frames = encoder(waveform, lengths)
    assert frames.tolist() == [125, 28, 50, 51]
    for clip, length in enumerate(lengths.tolist()):
        alone, count = encoder(waveform[clip : clip + 1, :length], lengths[clip : clip + 1])
        assert_near(alone[-1][0, : int(count)], states[-1][clip, : int(count)])
    mel, _ = encoder.mel(waveform[:1, :40_000], lengths[:1])
    for start in (0, 100, 200):
        expected = whisper_at_true_length(tiny_encoder("whisper").encoder, mel[:, start : start + 100].transpose(1, 2))
        assert_near(states[-1][0, start // 2 : start // 2 + expected.shape[1]], expected[0])


@pytest.mark.parametrize("kind", ENCODERS)
def test_recomputed_activations_give_the_same_gradients(kind, encoder_folder):
    gradients = []
    for gradient_checkpointing in (False, True):
        encoder = encoder_of(encoder_folder(kind), gradient_checkpointing=gradient_checkpointing).train()
        encoder(*random_clips([4000, 1200]))[0][-1][:, :10].square().sum().backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 40
    for name, gradient in gradients[0].items():
        assert_near(gradients[1][name], gradient)


def test_input_masks_lie_within_the_clip_and_are_as_many_and_as_wide_as_asked():
    masks = InputMasks(mask_time=(2, 5), mask_feature=(1, 3))
    x, frames = torch.ones(200, 40, 12), torch.tensor([40, 7] * 100)
    assert torch.equal(masks.eval()(x, frames), x)
    torch.manual_seed(0)
    masked = masks.train()(x, frames, torch.full((12,), 7.0))
    assert set(masked.unique().tolist()) == {0.0, 1.0, 7.0}
    in_time, in_features = (masked == 7).any(2), (masked == 0).any(1)
    assert not in_time[frames == 7, 7:].any()
    assert in_time.sum(1).max() == 10 and 3.5 < in_time[::2].sum(1).float().mean() < 5.5  # 2 x 2.5, less overlaps
    assert in_features.sum(1).max() == 3 and 1.2 < in_features.sum(1).float().mean() < 1.8
    torch.manual_seed(0)
    assert torch.equal(masked, masks(x, frames, torch.full((12,), 7.0)))


@pytest.fixture(scope="session")
def real_whisper() -> Path:
    root = os.environ.get("SERX_WEIGHTS")
    if not root:
        pytest.skip("SERX_WEIGHTS names no folder of weights")
    return Path(root) / "whisper-base-encoder"


@pytest.mark.weights
@torch.inference_mode()
def test_whisper_base_equals_transformers_at_thirty_seconds(real_whisper, clips):
    encoder = encoder_of(real_whisper, pad_seconds=30.0)
    config = transformers.AutoConfig.from_pretrained(real_whisper)
    reference = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    reference.load_state_dict(encoder.state_dict())
    extract = transformers.WhisperFeatureExtractor.from_pretrained(real_whisper)
    mel = extract(clips[0], sampling_rate=RATE, return_tensors="pt").input_features
    expected = reference(mel, output_hidden_states=True)
    states, frames = encoder(torch.from_numpy(clips[0])[None], torch.tensor([len(clips[0])]))
    assert int(frames) == -(-(len(clips[0]) // 160) // 2)
    for ours, theirs in zip(states, expected.hidden_states, strict=True):
        assert_near(ours, theirs)


@pytest.mark.weights
@torch.inference_mode()
def test_states_of_whisper_base_do_not_depend_on_padding_or_on_other_clips(real_whisper, clips):
    encoder = encoder_of(real_whisper)
    lengths = torch.tensor([len(clip) for clip in clips])
    waveform = torch.from_numpy(np.stack([np.pad(clip, (0, int(lengths.max()) + 5000 - len(clip))) for clip in clips]))
    together, _ = encoder(waveform, lengths)
    for clip in range(len(clips)):
        alone, count = encoder(waveform[clip : clip + 1, : lengths[clip]], lengths[clip : clip + 1])
        for ours, among_others in zip(alone, together, strict=True):
            # some channels of its last layers reach 500, where float32 rounds in steps of 3e-5
            assert_near(ours[0, : int(count)], among_others[clip, : int(count)], 5e-5)
