"""Speed, pitch and tempo: the ratios that are drawn, and the settings that are refused."""

import pytest
import torch
from pydantic import ValidationError

from serx.augment import PitchShift, PitchTempo, Speed, TimeStretch
from serx.dsp import batching
from serx.seeding import ClipRandom, derive
from tests.conftest import RATE, batched


def drawn(transform) -> torch.Tensor:
    random = ClipRandom(torch.arange(4000), derive(0, "test"))
    return transform.draw(torch.full((4000,), RATE), random, RATE).steps


def test_semitones_are_uniform_in_their_range_and_change_half_the_clips():
    steps = drawn(PitchShift(p=0.5, semitones=(-2.0, 2.0)))
    assert steps.min() == 114 and steps.max() == 144  # 128 * 2 ** (-+2 / 12)
    assert 0.47 < (steps != 128).double().mean() < 0.53
    semitones = 12 * torch.log2(steps[steps != 128] / 128)
    assert abs(semitones.mean()) < 0.1 and abs(semitones.std() - 4 / 12**0.5) < 0.1


def test_all_tempos_of_the_range_are_drawn():
    steps = drawn(TimeStretch(p=1.0, tempo=(0.8, 1.25)))
    assert steps.unique().tolist() == list(range(102, 161))


def test_pitch_and_tempo_are_independent_and_change_the_same_clips():
    random = ClipRandom(torch.arange(4000), derive(0, "test"))
    pitch, tempo = PitchTempo(p=0.5).draw(torch.full((4000,), RATE), random, RATE)
    assert pitch.steps.min() == 114 and pitch.steps.max() == 144 and pitch.bounds == (114, 144)
    assert tempo.steps.min() == 109 and tempo.steps.max() == 147 and tempo.bounds == (109, 147)
    changed = (pitch.steps != 128) | (tempo.steps != 128)
    assert 0.46 < changed.double().mean() < 0.54
    assert abs(torch.corrcoef(torch.stack([pitch.steps, tempo.steps])[:, changed].double())[0, 1]) < 0.1


def test_pitch_and_tempo_too_fast_for_one_pass_are_refused():
    with pytest.raises(ValidationError, match="narrow one of them, or list pitch_shift and time_stretch"):
        PitchTempo(semitones=(-4.0, 0.0), tempo=(0.8, 1.6))


@pytest.mark.parametrize(
    ("kind", "setting"),
    [(Speed, {"ratio": (0.5, 1.0)}), (PitchShift, {"semitones": (-6.0, 0.0)}), (TimeStretch, {"tempo": (0.9, 2.1)})],
)
def test_ratios_beyond_the_limits_are_refused(kind, setting):
    with pytest.raises(ValidationError, match="should be (greater|less) than or equal to"):
        kind(**setting)


def test_a_descending_range_is_refused():
    with pytest.raises(ValidationError, match="begins above its end"):
        TimeStretch(tempo=(1.1, 0.9))


@pytest.mark.parametrize(
    "transform", [PitchShift(semitones=(1.0, 2.0)), TimeStretch(tempo=(1.1, 1.2)), Speed(ratio=(1.1, 1.2))]
)
def test_unchanged_clips_keep_their_samples_if_all_others_become_faster(transform, clips, monkeypatch):
    monkeypatch.setattr(batching, "_reads_without_waiting", lambda tensor: False)  # as on a GPU
    x, lengths = batched(clips)
    params = transform.draw(lengths, ClipRandom(torch.arange(4), derive(4, "test")), RATE)
    y, new = transform.apply(x, lengths, params)
    unchanged = params.steps == 128
    assert unchanged[lengths.argmax()] and not unchanged.all()
    for i in unchanged.nonzero():
        assert torch.equal(y[i, : x.shape[1]], x[i]) and new[i] == lengths[i]
