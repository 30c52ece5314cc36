"""Channels are averaged, or one is taken: the one that is asked for, or the loudest where they cancel each other."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serx.data.audio import channels as channels_module
from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import decode, read_blocks
from tests.conftest import RATE, speechlike
from tests.data.audio.test_decoding import PLAIN, write


def test_channels_are_averaged(tmp_path):
    wave = speechlike(1.0, 200, 0)
    stereo = np.stack([wave, np.zeros_like(wave)], axis=1)
    assert np.abs(decode(write(tmp_path / "a.wav", stereo, subtype="FLOAT"), PLAIN) - wave / 2).max() < 1e-6


def stereo(path: Path, left: np.ndarray, right: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, np.stack([left, right], 1), rate, subtype="FLOAT")
    return path


def test_inverted_channels_are_not_silence(tmp_path):
    wave = speechlike(8.0, 150, 0)
    noise = 0.1 * wave.std() * np.random.default_rng(0).standard_normal((2, len(wave))).astype(np.float32)
    for other in (-wave, -0.8 * wave, -wave + noise[0]):
        path, notes = stereo(tmp_path / "a.wav", wave, other), []  # type: Path, list[str]
        expected = wave if np.std(wave) >= np.std(other) else other
        np.testing.assert_array_equal(decode(path, AudioConfig(), notes=notes), expected)
        assert len(notes) == 1 and "its 2 channels cancel each other" in notes[0] and "--channel" in notes[0]
        read_notes: list[str] = []
        np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, RATE, notes=read_notes))), expected)
        assert read_notes == notes


def test_channels_that_do_not_cancel_are_averaged_without_a_note(tmp_path):
    wave, other = speechlike(3.0, 150, 0), speechlike(3.0, 210, 1)
    for right in (wave, other, np.roll(wave, 7), 0 * wave, -0.3 * wave + other):
        notes: list[str] = []
        decoded = decode(stereo(tmp_path / "a.wav", wave, right), AudioConfig(), notes=notes)
        np.testing.assert_array_equal(decoded, np.stack([wave, right], 1).mean(axis=1))
        assert notes == []


def test_one_side_of_a_call_can_be_taken(tmp_path):
    left, right = speechlike(2.0, 120, 0), speechlike(2.0, 220, 1)
    path = stereo(tmp_path / "call.wav", left, right)
    for channel, wave in (("left", left), ("right", right)):
        np.testing.assert_array_equal(decode(path, AudioConfig(channel=channel)), wave)
        np.testing.assert_array_equal(np.concatenate(list(read_blocks(path, RATE, channel))), wave)
    mono, notes = tmp_path / "mono.wav", []  # type: Path, list[str]
    soundfile.write(mono, left, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(decode(mono, AudioConfig(channel="right"), notes=notes), left)
    assert notes == ["it has one channel, which is used as the right one"]


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("channels", [2, 3])
def test_the_quick_check_of_channels_that_cancel_decides_as_the_exact_one(channels, offset):
    random = np.random.default_rng(0)
    decisions = set()
    for share in np.linspace(0, 1, 41):
        wave = random.standard_normal((20_000, channels)).astype(np.float32)
        mixed = wave.mean(axis=1)
        wave += (share * math.sqrt(channels) - 1) * mixed[:, None] + offset  # the mean power of the mix: share**2 / C
        mixed, power = wave.mean(axis=1), wave.var(axis=0)
        cancels = mixed.var() * channels < channels_module.CANCELING * power.mean()
        assert (channels_module._instead_of_mix(wave, mixed) is not None) == cancels
        decisions.add(bool(cancels))
    assert decisions == {True, False}
