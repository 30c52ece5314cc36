"""What a recognizer makes of a clip, heard at one speed and at several."""

import pytest
import torch

from serx.dsp.resampling import change_speed
from serx.features.stack import FeaturesConfig
from serx.models.cnn2d import Cnn2dConfig
from serx.recognizer import Recognizer
from tests.conftest import batched

SPEEDS = (0.9375, 1.0, 1.125)


def recognizer(*speeds: float) -> Recognizer:
    torch.manual_seed(0)
    model = Cnn2dConfig(stem=4, widths=(8,), strides=((2, 2),), embedding=16, tta_speeds=speeds)
    return Recognizer(FeaturesConfig(n_mels=20), model, ("calm", "happy", "sad"), 16_000).eval()


@torch.inference_mode()
def test_heard_at_several_speeds_a_clip_gets_the_mean_of_its_log_probabilities(clips):
    waveform, lengths = batched(clips)
    plain, patient = recognizer(1.0), recognizer(*SPEEDS)
    expected = []
    for speed in (120, 128, 144):
        played = change_speed(waveform, lengths, torch.full_like(lengths, speed), speed)
        expected.append(plain(*played).log_softmax(-1))
    torch.testing.assert_close(patient(waveform, lengths), torch.stack(expected).mean(0))
    assert not torch.allclose(patient.probabilities(waveform, lengths), plain.probabilities(waveform, lengths))


@pytest.mark.parametrize("speeds", [(1.0,), SPEEDS])
def test_a_clip_alone_is_as_it_is_among_others(speeds, clips):
    waveform, lengths = batched(clips)
    net = recognizer(*speeds)
    together = net.probabilities(waveform, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = net.probabilities(waveform[i : i + 1, :length], lengths[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)
