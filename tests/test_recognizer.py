"""`Recognizer`: test-time augmentation by speed, and independence from other clips."""

import pytest
import torch

from serx.dsp.resampling import change_speed
from serx.features.stack import FeaturesConfig
from serx.models import Cnn2dConfig
from serx.recognizer import Recognizer
from tests.conftest import batched

SPEEDS = (0.9375, 1.0, 1.125)


def small_recognizer(*speeds: float) -> Recognizer:
    torch.manual_seed(0)
    model = Cnn2dConfig(stem=4, widths=(8,), strides=((2, 2),), embedding=16, tta_speeds=speeds)
    return Recognizer(FeaturesConfig(n_mels=20), model, ("calm", "happy", "sad"), 16_000).eval()


@torch.inference_mode()
def test_logits_at_several_speeds_are_the_mean_of_the_log_probabilities(clips):
    waveform, lengths = batched(clips)
    plain, augmented = small_recognizer(1.0), small_recognizer(*SPEEDS)
    expected = []
    for steps in (120, 128, 144):
        played = change_speed(waveform, lengths, torch.full_like(lengths, steps), steps)
        expected.append(plain(*played).log_softmax(-1))
    torch.testing.assert_close(augmented(waveform, lengths), torch.stack(expected).mean(0))
    assert not torch.allclose(augmented.probabilities(waveform, lengths), plain.probabilities(waveform, lengths))


@pytest.mark.parametrize("speeds", [(1.0,), SPEEDS])
def test_probabilities_do_not_depend_on_other_clips_in_the_batch(speeds, clips):
    waveform, lengths = batched(clips)
    recognizer = small_recognizer(*speeds)
    together = recognizer.probabilities(waveform, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = recognizer.probabilities(waveform[i : i + 1, :length], lengths[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_a_temperature_divides_the_logits(clips):
    waveform, lengths = batched(clips)
    recognizer = small_recognizer(1.0)
    recognizer.temperature = 2.0
    expected = (recognizer(waveform, lengths) / 2).softmax(-1)
    assert torch.equal(recognizer.probabilities(waveform, lengths), expected)
