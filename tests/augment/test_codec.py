"""The codec transform against real codecs, and its noise and band limit in closed form."""

import numpy as np
import pytest
import soundfile
import torch

from serx.augment.codec import BANDS, Codec, CodecParams
from serx.data.audio.decoding import read_audio
from serx.features import LogMel
from serx.seeding import ClipRandom, derive
from tests.conftest import RATE
from tests.data.encoding import encode

# Codec and bit rate: the ratio in dB, what the highest band loses of it, fading, cut-off in Hz, order. Fitted to other
# clips than those of the test.
REAL = {
    ("aac", "m4a", 48_000): (19, 0, 0.0, 20_000, 16),
    ("libmp3lame", "mp3", 64_000): (30, 8, 0.3, 20_000, 16),
    ("libopus", "opus", 24_000): (21, 6, 0.7, 7500, 2),
    ("libopus", "opus", 64_000): (27, 0, 0.5, 20_000, 16),
}


def params(count: int, snr_db: float, treble: float, fading: float, hertz: float, order: float) -> CodecParams:
    random = torch.Generator().manual_seed(0)
    bands = snr_db - treble * torch.linspace(0, 1, BANDS) + 8 * torch.rand(count, BANDS, generator=random) - 4
    fading, cutoff, order = (torch.full((count,), float(value)) for value in (fading, hertz / RATE, order))
    start = torch.randint(0, 1 << 20, (count,), generator=random)
    return CodecParams(torch.ones(count, dtype=torch.bool), bands, fading, cutoff, order, start, RATE)


def changes(clean: list[torch.Tensor], coded: list[torch.Tensor]) -> torch.Tensor:
    """Mean and spread of the change of log-mels in dB, by level below the clip's peak and by band, `(2, 3, 4)`."""
    mel = LogMel(sample_rate=RATE)
    change, level = [], []
    for a, b in zip(clean, coded, strict=True):
        before, after = mel(a[None])[0][0], mel(b[None])[0][0]
        change.append(after - before - (after.amax() - before.amax()))
        level.append(before - before.max())
    change, level = torch.cat(change, 1), torch.cat(level, 1)
    cells = [
        change[band : band + 14][(level[band : band + 14] > low) & (level[band : band + 14] <= low + 20)]
        for low in (-20, -40, -60)
        for band in (0, 14, 28, 42)
    ]
    return torch.stack([torch.stack([c.mean(), c.std()]) for c in cells], 1).view(2, 3, 4)


@pytest.mark.speech
def test_log_mels_change_as_much_as_in_files_of_real_codecs(speech_root, tmp_path):
    files = sorted((speech_root / "ravdess-native").glob("Actor_*/*.wav"))[-3:]
    clean = [torch.from_numpy(read_audio(file, RATE)) for file in files]
    for (codec, suffix, bit_rate), settings in REAL.items():
        real = []
        for i, file in enumerate(files):
            wave, rate = soundfile.read(file)
            copy = encode(tmp_path / f"{i}.{suffix}", wave.astype(np.float32), rate, codec, bit_rate=bit_rate)
            coded = torch.from_numpy(read_audio(copy, RATE))[: len(clean[i])]
            real.append(torch.nn.functional.pad(coded, (0, len(clean[i]) - len(coded))))
        drawn = params(len(clean), *settings)
        lengths = torch.tensor([len(wave) for wave in clean])
        batch = torch.nn.utils.rnn.pad_sequence(clean, batch_first=True)
        imitated = Codec(p=1).apply(batch, lengths, drawn)[0]
        of_real = changes(clean, real)
        of_imitation = changes(clean, [wave[:size] for wave, size in zip(imitated, lengths, strict=True)])
        difference, size = ((c.nan_to_num().square().mean().sqrt()) for c in (of_imitation - of_real, of_real))
        assert difference < 0.65 * size, (codec, bit_rate, float(difference), float(size))


def test_noise_lies_below_the_signal_by_the_ratio_that_was_drawn():
    wave = torch.randn(1, 4 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    lengths = torch.tensor([wave.shape[1]])
    for snr_db in (10.0, 20.0):
        given = params(1, snr_db, 0, 0, 1e6, 2)._replace(snr_db=torch.full((1, BANDS), snr_db))
        noise = Codec(p=1, masking=0).apply(wave, lengths, given)[0] - wave
        ratio = 10 * torch.log10(wave.square().mean() / noise.square().mean())
        assert float(ratio) == pytest.approx(snr_db, abs=0.2)


def test_a_band_that_is_softer_gets_a_lower_ratio():
    time = torch.arange(2 * RATE) / RATE
    wave = (0.5 * torch.sin(2 * torch.pi * 500 * time) + 0.005 * torch.sin(2 * torch.pi * 4000 * time))[None]
    given = params(1, 30, 0, 0, 1e6, 2)._replace(snr_db=torch.full((1, BANDS), 30.0))
    noise = Codec(p=1, masking=0.5).apply(wave, torch.tensor([wave.shape[1]]), given)[0] - wave
    power = torch.fft.rfft(noise[0]).abs().square()
    near = [float(power[2 * (f - 100) : 2 * (f + 100)].sum()) for f in (500, 4000)]
    tones = [0.5**2, 0.005**2]
    ratios = [10 * np.log10(tone / noise) for tone, noise in zip(tones, near, strict=True)]
    assert ratios[0] - ratios[1] == pytest.approx(20, abs=4)  # half of the 40 dB between the tones


def test_fading_takes_power_from_noisy_bands_and_silence_stays_silent():
    wave = torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    wave[:, RATE:] = 0
    lengths = torch.tensor([wave.shape[1]])
    for fading, expected in ((0.0, 2.0), (0.5, 0.75)):  # kept^2 + kept, where kept = 1 - fading, at a ratio of 0 dB
        given = params(1, 0, 0, fading, 1e6, 2)._replace(snr_db=torch.full((1, BANDS), -20.0))
        coded = Codec(p=1).apply(wave, lengths, given)[0]
        assert float(coded.square().sum() / wave.square().sum()) == pytest.approx(expected, rel=0.05)
        assert not coded[:, RATE + 512 :].any()


def test_the_upper_limit_is_a_butterworth_low_pass():
    for hertz in (1000, 4000, 6000):
        wave = torch.sin(2 * torch.pi * hertz * torch.arange(RATE) / RATE)[None]
        given = params(1, 90, 0, 0, 4000, 8)
        coded = Codec(p=1, masking=0).apply(wave, torch.tensor([RATE]), given)[0]
        gain = 10 * torch.log10(coded[0, 2000:-2000].square().mean() / wave[0, 2000:-2000].square().mean())
        assert float(gain) == pytest.approx(-10 * np.log10(1 + (hertz / 4000) ** 16), abs=0.3)


def test_each_clip_draws_its_own_codec_within_the_bounds():
    drawn = Codec(p=0.5, snr_db=(14, 36)).draw(
        torch.ones(4000), ClipRandom(torch.arange(4000), derive(0, "test")), RATE
    )
    assert 0.47 < drawn.on.float().mean() < 0.53
    assert drawn.snr_db.min() >= 14 - 4 - 12 and drawn.snr_db.max() <= 36 + 4
    assert drawn.snr_db.std(0).min() > 5 and 0 <= drawn.fading.min() <= drawn.fading.max() <= 0.7
    assert 4000 <= drawn.cutoff.min() * RATE < 4050 and 19_900 < drawn.cutoff.max() * RATE <= 20_001
