"""Speech encoders: torchaudio's numbers, padding, frozen parts, and the learning rates of the rest."""

import signal

import pytest
import torch
from safetensors.torch import save_file

from serx import checkpoint
from serx.config.loader import load_config
from serx.config.training import OptimConfig
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset, split_dataset
from serx.inference.predictor import Predictor
from serx.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig, standardize
from serx.training import epoch, fit
from serx.training.optim import make_optimizer
from serx.training.run_folder import BEST, LAST
from serx.training.sampling import TrainingClips, plan_epoch
from serx.training.state import EpochSums, new_state
from tests.conftest import batched
from tests.models.test_encoders import random_encoder

pytestmark = pytest.mark.usefixtures("small_encoders")
KINDS = ["WAV2VEC2_BASE", "HUBERT_LARGE", "WAVLM_BASE_PLUS", "WAVLM_LARGE"]  # norms before and after, group and layer
CLASSES = 5


def model_of(bundle: str, **settings) -> SpeechEncoder:
    config = SpeechEncoderConfig(bundle=bundle, embedding=12, **settings)
    model = SpeechEncoder(config, 1, CLASSES, random_encoder(bundle))
    for layer in (model.embedding, model.classifier[-1]):  # so large that a leak of padding shows
        torch.nn.init.normal_(layer.weight, std=2.0)
    return model.eval()


def random_waveforms(lengths: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor(lengths)
    waveform = torch.randn(len(lengths), width, generator=torch.Generator().manual_seed(1))
    return (waveform * (torch.arange(width) < counts[:, None]))[:, None], counts


@pytest.mark.parametrize("bundle", KINDS)
def test_the_layers_of_a_single_clip_equal_torchaudios(bundle):
    model = model_of(bundle)
    features, lengths = random_waveforms([4000], 4000)
    waveform = standardize(features[:, 0], lengths)
    with torch.inference_mode():
        inner, _ = model.encoder.extract_features(waveform)
        last, _ = model.encoder(waveform)
        states = model.hidden_states(*model.convolve(waveform, lengths))
    assert len(states) == 5
    for ours, expected in zip(states[1:], [*inner[:-1], last], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bundle", KINDS)
def test_logits_do_not_depend_on_padding_or_on_other_clips_in_the_batch(bundle):
    model = model_of(bundle)
    features, lengths = random_waveforms([4000, 1200, 30, 5, 2501, 3999, 800, 801, 802, 4400], 4500)
    with torch.inference_mode():
        together = model(features, lengths)
        for i, length in enumerate(lengths.tolist()):
            alone = model(features[i : i + 1, :, :length], lengths[i : i + 1])
            torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)
    assert together.std(0).min() > 0.02


@pytest.mark.parametrize("bundle", KINDS)
def test_half_precision_changes_probabilities_by_less_than_two_percent(bundle):
    model, (features, lengths) = model_of(bundle), random_waveforms([4000, 1200], 4000)
    with torch.inference_mode():
        exact = model(features, lengths).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(features, lengths).float().softmax(-1)
    assert (exact - rounded).abs().max() < 0.02


def test_logits_do_not_depend_on_level_and_offset():
    model, (features, lengths) = model_of("WAVLM_BASE_PLUS"), random_waveforms([4000], 4000)
    torch.testing.assert_close(model(features, lengths), model(0.01 * features + 0.02, lengths), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bundle", KINDS)
def test_every_tuned_parameter_gets_a_gradient_and_the_convolutions_get_none(bundle):
    model = model_of(bundle, tune="full").train()
    model(*random_waveforms([4000, 1200, 900], 4000)).log_softmax(-1)[:, 0].sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoder.feature_extractor"), name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_a_frozen_encoder_keeps_no_graph_and_stays_in_evaluation_while_its_layer_weights_are_trained():
    model = model_of("WAV2VEC2_BASE").train()
    assert not any(module.training for module in model.encoder.modules())
    features, lengths = random_waveforms([4000, 1200], 4000)
    assert not any(h.requires_grad for h in model.hidden_states(*model.convolve(features[:, 0], lengths)))
    model(features, lengths).log_softmax(-1)[:, 0].sum().backward()
    assert model.layer_scores.grad.abs().min() > 0
    assert all(p.grad is None for p in model.encoder.parameters())


def test_the_top_layers_are_trained_and_those_below_stay_frozen():
    model = model_of("WAV2VEC2_BASE", tune="full", top_layers=2).train()
    layers = model.encoder.encoder.transformer.layers
    assert [layer.dropout.training for layer in layers] == [False, False, True, True]
    assert [next(layer.parameters()).requires_grad for layer in layers] == [False, False, True, True]
    assert not model.encoder.encoder.feature_projection.projection.weight.requires_grad
    model.eval()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("bundle", ["WAV2VEC2_BASE", "HUBERT_LARGE"])
def test_the_learning_rate_of_each_layer_is_a_share_of_that_above(bundle):
    model = model_of(bundle, tune="full", layer_decay=0.5, encoder_lr_scale=0.1)
    scale = {}
    for group in make_optimizer(model, OptimConfig(lr=0.01)).param_groups:
        scale |= dict.fromkeys(group["params"], group["rate_scale"])
    body = model.encoder.encoder
    for i, layer in enumerate(body.transformer.layers):
        assert {scale[p] for p in layer.parameters()} == {0.1 * 0.5 ** (3 - i)}
    assert scale[body.feature_projection.projection.weight] == 0.1 * 0.5**4
    assert scale[body.transformer.layer_norm.weight] == (0.1 if bundle == "HUBERT_LARGE" else 0.1 * 0.5**4)
    assert scale[model.layer_scores] == scale[model.embedding.weight] == 1.0
    assert len(scale) == sum(p.requires_grad for p in model.parameters())


@pytest.fixture
def encoder_config(tiny_root, tmp_path):
    """A function from overrides to the configuration of a small encoder with a weights file."""
    save_file(random_encoder("WAVLM_BASE_PLUS").state_dict(), tmp_path / "weights.safetensors")
    path = tmp_path / "encoder.yaml"
    path.write_text(
        f"data: {{root: {tiny_root}, protocol: speakers, test_speakers: [5, 6], valid_speakers: [3, 4]}}\n"
        "features: {stack: [waveform], normalize: none}\n"
        "augment: {waveform: [{kind: noise, p: 0.5}, {kind: crop, seconds: 0.2}]}\n"
        "model: {kind: speech_encoder, bundle: WAVLM_BASE_PLUS, tune: full, embedding: 12}\n"
        "train: {epochs: 2, batch_size: 8, device: cpu, threads: 1, ema_decay: 0.9}\n"
    )
    return lambda *overrides: load_config(path, [f"model.weights={tmp_path / 'weights.safetensors'}", *overrides])


@pytest.mark.slow
def test_a_checkpoint_holds_the_frozen_encoder_and_opens_without_its_weights_file(encoder_config, tmp_path):
    fit(encoder_config("model.tune=frozen"), tmp_path / "run", progress=False)
    (tmp_path / "weights.safetensors").unlink()
    predictor = Predictor.load(tmp_path / "run" / BEST, torch.device("cpu"))
    kept = predictor.recognizer.backbone.members[0].encoder.state_dict()
    for name, tensor in random_encoder("WAVLM_BASE_PLUS").state_dict().items():
        assert torch.equal(kept[name], tensor), name


@pytest.mark.slow
def test_tuning_changes_the_transformer_and_not_the_convolutions(encoder_config, tmp_path):
    fit(encoder_config(), tmp_path / "run", progress=False)
    tensors = checkpoint.load(tmp_path / "run" / BEST).group("model.backbone.members.0.encoder")
    for name, tensor in random_encoder("WAVLM_BASE_PLUS").state_dict().items():
        assert torch.equal(tensors[name], tensor) == name.startswith("feature_extractor"), name


@pytest.mark.slow
def test_an_interrupted_tuned_run_resumes_to_the_same_bits(encoder_config, tmp_path, monkeypatch):
    config = encoder_config()
    fit(config, tmp_path / "whole", progress=False)
    run_epoch = epoch.run_epoch

    def run_one_step(state, training, source, steps, after_step):
        def stop() -> bool:
            signal.raise_signal(signal.SIGTERM)
            return after_step()

        run_epoch(state, training, source, steps, stop)

    with monkeypatch.context() as patch:
        patch.setattr(epoch, "run_epoch", run_one_step)
        assert fit(config, tmp_path / "stopped", progress=False).stopped_by == signal.SIGTERM
    interrupted = checkpoint.load(tmp_path / "stopped" / LAST).metadata["progress"]
    assert (interrupted["epoch"], interrupted["step"]) == (0, 1)
    fit(config, tmp_path / "stopped", resume=True, progress=False)
    whole, resumed = (checkpoint.load(tmp_path / run / LAST) for run in ("whole", "stopped"))
    assert whole.tensors.keys() == resumed.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name
    assert whole.metadata["progress"] == resumed.metadata["progress"]


def test_training_scales_the_learning_rate_of_each_parameter_group(encoder_config):
    config = encoder_config("optim.schedule=constant", "optim.warmup_ratio=0", "optim.lr=0.01")
    device = torch.device("cpu")
    dataset = load_dataset(config.data, progress=False)
    split = split_dataset(dataset, config.data, progress=False)
    source = make_batch_source(dataset.audio_cache, device)
    state = new_state(config, dataset, split, source, device)
    state.sums = EpochSums(len(dataset.labels), device, 1)
    clips = torch.tensor(split.train).numpy()
    training = TrainingClips(clips, dataset.targets[clips], torch.ones(len(dataset.labels)))
    epoch.run_epoch(state, training, source, plan_epoch(training, config, 0)[:1], lambda: True)
    groups = state.optimizer.param_groups
    assert groups[0]["lr"] == 0.01
    assert [group["lr"] for group in groups] == [0.01 * group["rate_scale"] for group in groups]
    assert len({group["lr"] for group in groups}) == 6  # head, four layers, projection


def test_an_unknown_bundle_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean WAV2VEC2_BASE"):
        SpeechEncoderConfig(bundle="wav2vec2_bass")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble_size": 3}, "ensemble_size"),
        ({"relaxed_freq_norm": 0.5}, "relaxed_freq_norm"),
        ({"top_layers": 2}, "tune: full"),
    ],
)
def test_settings_without_meaning_for_a_speech_encoder_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SpeechEncoderConfig(**settings)


def test_an_encoder_reads_clips_of_any_length(clips):
    model, (waveform, lengths) = model_of("HUBERT_BASE"), batched(clips)
    assert model(waveform[:, None], lengths).isfinite().all()
