"""Speech encoders with their head: padding, frozen parts, learning rates, checkpoints, and statistics of all layers."""

import shutil
import signal
import sys

import numpy as np
import pytest
import torch

from serx import checkpoint
from serx.config.loader import load_config
from serx.config.training import OptimConfig
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import CheckpointError, ConfigError
from serx.inference.predictor import Predictor
from serx.models.encoders import load_encoder, resolve_encoder
from serx.models.encoders.lora import LoraLinear
from serx.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from serx.testing import check_model
from serx.training import epoch, fit
from serx.training.epoch_sums import EpochSums
from serx.training.new_run import new_state
from serx.training.optim import make_optimizer
from serx.training.run_folder import BEST, LAST
from serx.training.sampling import TrainingClips, plan_epoch
from tests.conftest import batched

KINDS = ["whisper", "wav2vec2", "xls-r", "wavlm", "data2vec"]
CLASSES = 5


@pytest.fixture
def model_of(encoder_folder):
    """A function from a kind of encoder and settings to a model in evaluation mode."""

    def build(kind: str, **settings) -> SpeechEncoder:
        config = SpeechEncoderConfig(source=str(encoder_folder(kind)), embedding=12, **settings)
        torch.manual_seed(0)
        model = SpeechEncoder.from_pretrained(config, 1, CLASSES)
        torch.nn.init.normal_(model.classifier[-1].weight, std=0.5)  # so large that a leak of padding shows
        return model.eval()

    return build


def random_waveforms(lengths: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor(lengths)
    waveform = torch.randn(len(lengths), width, generator=torch.Generator().manual_seed(1))
    return (waveform * (torch.arange(width) < counts[:, None]))[:, None], counts


@pytest.mark.parametrize("pooling", ["attentive", "statistics"])
@pytest.mark.parametrize("kind", KINDS)
def test_logits_do_not_depend_on_padding_or_on_other_clips_in_the_batch(kind, pooling, model_of):
    model = model_of(kind, pooling=pooling)
    check_model(model, bins=1, classes=CLASSES, frames=(4000, 1200, 30, 5, 2501, 3999, 800, 801, 802, 4400))


@torch.inference_mode()
def test_pooled_are_the_mean_and_deviation_of_each_layer_over_the_frames_of_a_clip(model_of):
    model = model_of("whisper", pooling="statistics")
    features, lengths = random_waveforms([4000, 1200], 4000)
    pooled = model.encoder.layer_statistics(features[:, 0], lengths)
    assert pooled.shape == (2, 5 * 2 * 16)
    for clip, frames in enumerate((13, 4)):
        states, _ = model.encoder(features[clip : clip + 1, 0], lengths[clip : clip + 1])
        rows = [state[0, :frames].numpy() for state in states]
        expected = np.concatenate([np.concatenate([row.mean(0), row.std(0)]) for row in rows])
        np.testing.assert_allclose(pooled[clip].numpy(), expected, rtol=1e-3, atol=4e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_changes_probabilities_by_less_than_two_percent(kind, model_of):
    model, (features, lengths) = model_of(kind), random_waveforms([4000, 1200], 4000)
    with torch.inference_mode():
        exact = model(features, lengths).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(features, lengths).float().softmax(-1)
    assert (exact - rounded).abs().max() < 0.02


def test_logits_of_wavlm_do_not_depend_on_level_and_offset(model_of):
    model, (features, lengths) = model_of("wavlm"), random_waveforms([4000], 4000)
    torch.testing.assert_close(model(features, lengths), model(0.01 * features + 0.02, lengths), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_tuned_parameter_gets_a_gradient_and_the_convolutions_get_none(kind, model_of):
    model = model_of(kind, tune="full").train()
    model(*random_waveforms([4000, 1200, 900], 4000)).log_softmax(-1)[:, 0].sum().backward()
    for name, parameter in model.named_parameters():
        frozen = ("encoder.feature_extractor", "encoder.conv", "encoder.embed_positions", "encoder.masked_spec_embed")
        assert (parameter.grad is None) == name.startswith(frozen), name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_a_frozen_encoder_keeps_no_graph_and_stays_in_evaluation_while_its_layer_weights_are_trained(model_of):
    model = model_of("whisper").train()
    assert not any(module.training for module in model.encoder.layers.modules())
    features, lengths = random_waveforms([4000, 1200], 4000)
    assert not any(state.requires_grad for state in model.encoder(features[:, 0], lengths)[0])
    model(features, lengths).log_softmax(-1)[:, 0].sum().backward()
    assert model.layer_scores.grad.abs().min() > 0
    assert all(p.grad is None for p in model.encoder.parameters())


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2"])
def test_the_top_layers_are_trained_and_those_below_stay_frozen(kind, model_of):
    model = model_of(kind, tune="full", top_layers=2, encoder_dropout=0.2).train()
    encoder = model.encoder
    layers = encoder.layers if kind == "whisper" else encoder.encoder.layers
    assert [layer.dropout.training for layer in layers] == [False, False, True, True]
    assert [layer.dropout.p for layer in layers] == [0.2] * 4
    assert [next(layer.parameters()).requires_grad for layer in layers] == [False, False, True, True]
    first = encoder.conv1 if kind == "whisper" else encoder.feature_projection.projection
    assert not first.weight.requires_grad
    model.eval()
    assert not any(module.training for module in model.modules())


def test_input_masks_change_training_of_a_frozen_encoder_and_not_evaluation(model_of):
    plain, masked = (model_of("whisper", dropout=0.0, mask_time=mask) for mask in ((0, 0), (2, 10)))
    features, lengths = random_waveforms([4000, 3000], 4000)
    assert torch.equal(plain(features, lengths), masked(features, lengths))
    assert not torch.equal(plain.train()(features, lengths), masked.train()(features, lengths))


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "xls-r"])
def test_the_learning_rate_of_each_layer_is_a_share_of_that_above(kind, model_of):
    model = model_of(kind, tune="full", layer_decay=0.5, encoder_lr_scale=0.1)
    scale = {}
    for group in make_optimizer(model, OptimConfig(lr=0.01)).param_groups:
        scale |= dict.fromkeys(group["params"], group["rate_scale"])
    body = model.encoder if kind == "whisper" else model.encoder.encoder
    for i, layer in enumerate(body.layers):
        assert {scale[p] for p in layer.parameters()} == {0.1 * 0.5 ** (3 - i)}
    assert scale[body.layer_norm.weight] == (0.1 * 0.5**4 if kind == "wav2vec2" else 0.1)
    if kind != "whisper":
        assert scale[model.encoder.feature_projection.projection.weight] == 0.1 * 0.5**4
    assert scale[model.layer_scores] == scale[model.embedding.weight] == 1.0
    assert len(scale) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_lora_begins_as_the_frozen_model_and_trains_its_updates_and_the_head_only(kind, model_of):
    frozen, lora = model_of(kind), model_of(kind, tune="lora", lora_rank=3)
    batch = random_waveforms([4000, 1200, 900], 4000)
    own = lora.state_dict()
    assert all(torch.equal(tensor, own[f"encoder.{name}"]) for name, tensor in frozen.encoder.state_dict().items())
    for name in ("weight", "bias"):  # the fixture draws it
        lora.classifier[-1].get_parameter(name).data.copy_(frozen.classifier[-1].get_parameter(name))
    with torch.inference_mode():
        assert torch.equal(frozen(*batch), lora(*batch))
    added = {name for name in own if "lora_" in name}
    assert (
        own.keys() - frozen.state_dict().keys() == added and len(added) == 4 * 4 * 2
    )  # layers, linear layers, A and B
    trained = {name for name, parameter in lora.named_parameters() if parameter.requires_grad}
    assert trained == added | {name for name in own if not name.startswith("encoder.")} & trained
    assert {name for name, _ in lora.named_parameters() if not name.startswith("encoder.")} < trained
    sizes = [(m.in_features, m.out_features) for m in lora.encoder.modules() if isinstance(m, LoraLinear)]
    assert sum(own[name].numel() for name in added) == sum(3 * (inputs + outputs) for inputs, outputs in sizes)
    lora.train()(*batch).log_softmax(-1)[:, 0].sum().backward()
    for name, parameter in lora.named_parameters():
        assert (parameter.grad is None) == (name not in trained), name
    assert all(lora.get_parameter(name).grad.abs().max() > 0 for name in added if name.endswith("lora_b"))
    groups = make_optimizer(lora, OptimConfig(lr=0.01)).param_groups
    assert {group["rate_scale"] for group in groups} == {1.0}
    assert sum(len(group["params"]) for group in groups) == len(trained)


def test_a_layer_of_lora_equals_one_whose_weight_has_the_update_added():
    torch.manual_seed(0)
    for bias in (True, False):
        original = torch.nn.Linear(6, 4, bias=bias)
        layer, x = LoraLinear(original, rank=2, alpha=5.0), torch.randn(3, 7, 6)
        assert torch.equal(layer(x), original(x))
        torch.nn.init.normal_(layer.lora_b)
        merged = original.weight + 5.0 / 2 * layer.lora_b @ layer.lora_a
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, merged, original.bias))


def test_lora_of_the_top_layers_leaves_those_below_as_they_are(model_of):
    model = model_of("wav2vec2", tune="lora", top_layers=2, encoder_dropout=0.2).train()
    layers = model.encoder.encoder.layers
    assert [any(isinstance(m, LoraLinear) for m in layer.modules()) for layer in layers] == [False, False, True, True]
    assert [layer.dropout.training for layer in layers] == [False, False, True, True]
    assert not model.encoder.feature_projection.training


@pytest.fixture
def encoder_config(tiny_root, tmp_path, encoder_folder):
    """A function from overrides to the configuration of a tiny Whisper in a folder of the test."""
    shutil.copytree(encoder_folder("whisper"), tmp_path / "encoder")
    path = tmp_path / "encoder.yaml"
    path.write_text(
        f"data: {{root: {tiny_root}, protocol: speakers, test_speakers: [5, 6], valid_speakers: [3, 4]}}\n"
        "features: {stack: [waveform], normalize: none}\n"
        "augment: {waveform: [{kind: noise, p: 0.5}, {kind: crop, seconds: 0.2}]}\n"
        f"model: {{kind: speech_encoder, source: {tmp_path / 'encoder'}, tune: full, embedding: 12}}\n"
        "train: {epochs: 2, batch_size: 8, device: cpu, threads: 1, ema_decay: 0.9}\n"
    )
    return lambda *overrides: load_config(path, overrides)


@pytest.mark.slow
def test_a_tuned_encoder_is_tuned_further_with_other_labels(encoder_config, tmp_path, capsys):
    first = fit(encoder_config("train.epochs=1"), tmp_path / "first", progress=False)
    config = encoder_config(f"train.init_from={first.checkpoint}", "data.label_map={neutral: null}")
    dataset = load_dataset(config.data, progress=False)
    split = split_dataset(dataset, config.data, progress=False)
    source = make_batch_source(dataset.audio_cache, torch.device("cpu"))
    capsys.readouterr()
    state = new_state(config, dataset, split, source, torch.device("cpu"), progress=False)
    own, before = state.recognizer.state_dict(), Predictor.load(first.checkpoint).recognizer.state_dict()
    new = [name for name in own if not torch.equal(own[name], before[name])]
    assert len(new) == 2 and all("classifier" in name for name in new)
    assert "(other labels)" in capsys.readouterr().out
    published = load_encoder(resolve_encoder(config.model.source)).state_dict()
    assert not all(torch.equal(own[f"backbone.members.0.encoder.{name}"], tensor) for name, tensor in published.items())


@pytest.mark.slow
def test_a_checkpoint_holds_the_frozen_encoder_and_opens_without_its_source(encoder_config, tmp_path):
    original = load_encoder(resolve_encoder(str(tmp_path / "encoder"))).state_dict()
    revision = resolve_encoder(str(tmp_path / "encoder")).revision
    fit(encoder_config("model.tune=frozen"), tmp_path / "run", progress=False)
    shutil.rmtree(tmp_path / "encoder")
    predictor = Predictor.load(tmp_path / "run" / BEST, torch.device("cpu"))
    kept = predictor.recognizer.backbone.members[0].encoder.state_dict()
    for name, tensor in original.items():
        assert torch.equal(kept[name], tensor), name
    assert predictor.config.model.revision == revision
    assert predictor.config.model.architecture.d_model == 16


@pytest.mark.slow
def test_tuning_changes_the_transformer_and_not_the_convolutions(encoder_config, tmp_path):
    original = load_encoder(resolve_encoder(str(tmp_path / "encoder"))).state_dict()
    fit(encoder_config(), tmp_path / "run", progress=False)
    tensors = checkpoint.load(tmp_path / "run" / BEST).group("model.backbone.members.0.encoder")
    for name, tensor in original.items():
        assert torch.equal(tensors[name], tensor) == name.startswith(("conv", "embed_positions")), name


def test_an_encoder_that_cannot_be_used_is_reported_before_anything_is_written(encoder_config, tmp_path):
    (tmp_path / "encoder" / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="there is no model.safetensors"):
        fit(encoder_config(), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_folder_whose_weights_have_changed_is_refused_by_its_revision(encoder_config, tmp_path):
    revision = resolve_encoder(str(tmp_path / "encoder")).revision
    assert resolve_encoder(str(tmp_path / "encoder"), revision).revision == revision
    with pytest.raises(ConfigError, match=f"its weights have {revision}, but model.revision is sha256:0"):
        fit(encoder_config("model.revision=sha256:0"), tmp_path / "run", progress=False)


def test_a_checkpoint_without_an_architecture_is_refused_in_one_line(encoder_config, tmp_path):
    fit(encoder_config("train.epochs=1"), tmp_path / "run", progress=False)
    saved = checkpoint.load(tmp_path / "run" / BEST)
    metadata = {name: value for name, value in saved.metadata.items() if name not in ("sha256", "format")}
    model = metadata["config"]["model"]
    huge = {**model["architecture"], "d_model": 1 << 14, "encoder_layers": 100}
    for architecture, fault in ((None, "model.architecture is missing"), (huge, "its configuration needs")):
        model["architecture"] = architecture
        checkpoint.save(tmp_path / "changed", saved.tensors, metadata)
        with pytest.raises(CheckpointError, match=fault) as caught:
            Predictor.load(tmp_path / "changed")
        assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_checkpoint_of_lora_opens_without_its_source_and_gives_the_same_bits(encoder_config, tmp_path, monkeypatch):
    original = load_encoder(resolve_encoder(str(tmp_path / "encoder"))).state_dict()
    run = fit(encoder_config("model.tune=lora", "model.lora_rank=2", "train.ema_decay=0"), tmp_path / "run",
              progress=False)  # fmt: skip
    shutil.rmtree(tmp_path / "encoder")
    for library in ("transformers", "peft"):
        monkeypatch.setitem(sys.modules, library, None)
    first, second = (Predictor.load(run.checkpoint, torch.device("cpu")).recognizer for _ in range(2))
    encoder = first.backbone.members[0].encoder
    assert all(torch.equal(encoder.state_dict()[name], tensor) for name, tensor in original.items())
    layers = [module for module in encoder.modules() if isinstance(module, LoraLinear)]
    assert len(layers) == 16 and all(len(layer.lora_a) == 2 and layer.lora_b.abs().max() > 0 for layer in layers)
    saved = checkpoint.load(tmp_path / "run" / BEST).group("model")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in first.state_dict().items() if name in saved)
    batch = torch.randn(2, 4000), torch.tensor([4000, 1200])
    assert torch.equal(first.probabilities(*batch), second.probabilities(*batch))


@pytest.mark.slow
@pytest.mark.parametrize("tune", ["full", "lora"])
def test_an_interrupted_tuned_run_resumes_to_the_same_bits(tune, encoder_config, tmp_path, monkeypatch):
    config = encoder_config(f"model.tune={tune}")
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
    shutil.rmtree(tmp_path / "encoder")  # the checkpoint has all that is needed
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
    assert len({group["lr"] for group in groups}) == 5  # head and four layers


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble_size": 3}, "ensemble_size"),
        ({"relaxed_freq_norm": 0.5}, "relaxed_freq_norm"),
        ({"top_layers": 2}, "tune: full"),
        ({"encoder_dropout": 0.1}, "tune: full"),
        ({"gradient_checkpointing": True}, "tune: full"),
        ({"tune": "full", "lora_rank": 4}, "lora_rank needs tune: lora"),
        ({"lora_alpha": 4.0}, "lora_alpha needs tune: lora"),
        ({"tune": "lora", "encoder_lr_scale": 0.5}, "encoder_lr_scale needs tune: full"),
        ({"tune": "lora", "layer_decay": 0.5}, "layer_decay needs tune: full"),
        ({"tune": "lora", "lora_rank": 0}, "greater than or equal to 1"),
        ({"weights": "encoder.safetensors"}, "model.source"),
        ({"source": "WAVLM_LARGE"}, "microsoft/wavlm-large"),
        ({"mask_time": (2, 0)}, "largest width"),
    ],
)
def test_settings_without_meaning_for_a_speech_encoder_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SpeechEncoderConfig(**settings)


@pytest.mark.parametrize("kind", ["whisper", "hubert"])
def test_an_encoder_reads_clips_of_any_length(kind, model_of, clips):
    model, (waveform, lengths) = model_of(kind), batched(clips)
    assert model(waveform[:, None], lengths).isfinite().all()
