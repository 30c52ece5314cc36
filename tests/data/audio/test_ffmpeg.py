"""What libsndfile does not read: the same clip in every format, damage by name, and no message."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serx.data.audio.config import AudioConfig
from serx.data.audio.damage import damaged_pages
from serx.data.audio.decoding import audio_duration, decode, read_blocks
from serx.data.audio.error import AudioError
from serx.data.audio.ffmpeg import FfmpegError, FfmpegFile
from serx.data.audio.levels import loudest_level_db
from serx.data.audio.segments import decode_segments
from serx.data.cache.audio_cache import open_audio_cache
from serx.system import without_messages
from tests.conftest import RATE, speechlike
from tests.data.audio.test_channels import stereo
from tests.data.encoding import encode

FULL = 48_000  # Hz; opus has no other rates than its own
SECONDS = 1.2
# file name -> codec, container, rate, bits per second, whether it is a video, whether it is lossless
FORMATS = {
    "a.m4a": ("aac", "mp4", 44_100, 128_000, False),
    "alac.m4a": ("alac", "mp4", 44_100, None, False),
    "a.aac": ("aac", "adts", 44_100, 128_000, False),
    "a.mts": ("aac", "mpegts", 44_100, 128_000, False),
    "a.flv": ("aac", "flv", 44_100, 128_000, False),
    "a.webm": ("libopus", "webm", FULL, 64_000, False),
    "a.opus": ("libopus", "ogg", FULL, 64_000, False),
    "film.mp4": ("aac", "mp4", FULL, 128_000, True),
    "film.mkv": ("libopus", "matroska", FULL, 64_000, True),
    "film.mov": ("pcm_s16le", "mov", 44_100, None, True),
    "a.mp3": ("libmp3lame", "mp3", 44_100, 128_000, False),
    "a.aiff": ("pcm_s16be", "aiff", 44_100, None, False),
    "flac.oga": ("flac", "oga", 44_100, None, False),
}


@pytest.fixture(scope="module")
def waves() -> dict[int, np.ndarray]:
    return {rate: _wave(rate) for rate in (8_000, RATE, 44_100, FULL)}


def _wave(rate: int) -> np.ndarray:
    """Harmonics below 3 kHz that swell and fade irregularly: the same sound at any rate."""
    time = np.arange(round(SECONDS * rate)) / rate
    swell = (0.2 + np.abs(np.sin(2 * np.pi * 2.3 * time**1.5))) * np.minimum(1, 20 * np.minimum(time, SECONDS - time))
    tones = sum(np.sin(2 * np.pi * k * (140 * time + 25 * time**2)) / k for k in range(1, 14))
    return (0.12 * swell * tones).astype(np.float32)


def lag_and_error(decoded: np.ndarray, expected: np.ndarray) -> tuple[int, float]:
    """By how many samples `decoded` is late, and its largest difference at that lag, relative to the peak."""
    size = min(len(decoded), len(expected))
    spectrum = np.fft.rfft(decoded[:size], 4 * size) * np.conj(np.fft.rfft(expected[:size], 4 * size))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    lag -= 4 * size if lag > 2 * size else 0
    aligned = decoded[max(lag, 0) :], expected[max(-lag, 0) :]
    size = min(map(len, aligned))
    return lag, float(np.abs(aligned[0][:size] - aligned[1][:size]).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_clip_in_every_format_starts_at_the_same_sample(name, waves, tmp_path):
    codec, container, rate, bit_rate, video = FORMATS[name]
    path = encode(tmp_path / name, waves[rate], rate, codec, container, bit_rate, video)
    notes: list[str] = []
    decoded = decode(path, AudioConfig(), notes=notes)
    lag, error = lag_and_error(decoded, waves[RATE])
    assert (lag, notes) == (0, [])
    assert error < (2e-3 if bit_rate is None else 0.1)
    assert 0 <= len(decoded) - len(waves[RATE]) < 2048 * RATE / rate
    assert audio_duration(path) == pytest.approx(SECONDS, abs=0.06)
    np.testing.assert_allclose(np.concatenate(list(read_blocks(path, RATE))), decoded, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "codec", "container", "rate", "bit_rate"),
    [
        ("a.amr", "libopencore_amrnb", "amr", 8_000, 12_200),
        ("a.3gp", "libopencore_amrnb", "3gp", 8_000, 12_200),
        ("a.wma", "wmav2", "asf", 44_100, 128_000),
        ("a.ac3", "ac3", "ac3", 44_100, 192_000),
    ],
)
def test_other_formats_keep_the_duration_and_the_level(name, codec, container, rate, bit_rate, waves, tmp_path):
    decoded = decode(encode(tmp_path / name, waves[rate], rate, codec, container, bit_rate), AudioConfig())
    assert len(decoded) / RATE == pytest.approx(SECONDS, abs=0.1)
    assert loudest_level_db(decoded, RATE) == pytest.approx(loudest_level_db(waves[RATE], RATE), abs=2)


# Containers that do not record how many samples an encoder prepends, and files that record it in other places.
UNRECORDED = {
    "a.avi": ("libmp3lame", "avi", {}),
    "mp3.ts": ("libmp3lame", "mpegts", {}),
    "bare.mp3": ("libmp3lame", "mp3", {"write_xing": "0"}),
    "mp3.wav": ("libmp3lame", "wav", {}),
    "ac3.ts": ("ac3", "mpegts", {}),
    "mp2.ts": ("mp2", "mpegts", {}),
    "opus.ts": ("libopus", "mpegts", {}),
    "bare.ac3": ("ac3", "ac3", {}),
    "bare.mp2": ("mp2", "mp2", {}),
    "fragments.mp4": ("aac", "mp4", {"movflags": "frag_keyframe+empty_moov"}),
    "aac.nut": ("aac", "nut", {}),
    "aac.mka": ("aac", "matroska", {}),
    "mp3.mka": ("libmp3lame", "matroska", {}),
    "a.wma": ("wmav2", "asf", {}),
    "flac.nut": ("flac", "nut", {}),
    "adpcm.avi": ("adpcm_ms", "avi", {}),
    "g722.wav": ("g722", "wav", {}),
    "nellymoser.flv": ("nellymoser", "flv", {}),
}


@pytest.mark.parametrize("name", UNRECORDED)
def test_the_delay_of_an_encoder_is_dropped_where_the_container_does_not_record_it(name, waves, tmp_path):
    codec, container, options = UNRECORDED[name]
    rate = RATE if codec in {"g722", "nellymoser"} else FULL
    bit_rate = 64_000 if rate == RATE else 192_000
    path = encode(tmp_path / name, waves[rate], rate, codec, container, bit_rate, options=options)
    decoded = decode(path, AudioConfig(sample_rate=rate))
    lag, error = lag_and_error(decoded, waves[rate])
    assert lag == 0
    assert error < (0.1 if rate == FULL else 0.2)
    assert len(decoded) >= len(waves[rate]) - 512


def test_a_long_tag_before_an_mp3_without_a_count_does_no_harm(waves, tmp_path):
    bare = encode(tmp_path / "bare.mp3", waves[FULL], FULL, "libmp3lame", "mp3", options={"write_xing": "0"})
    content = bare.read_bytes()
    assert content[:3] == b"ID3"
    long_tag = tmp_path / "tag.mp3"
    long_tag.write_bytes(b"ID3\4\0\0\0\0\x60\0" + b"TXXX\0\0\x5f\x76\0\0" + b"x" * (0x60 * 128 - 10) + content[45:])
    for path in (bare, long_tag):
        assert len(decode(path, AudioConfig(sample_rate=FULL))) == pytest.approx(SECONDS * FULL, abs=1152)


def test_a_flac_that_was_written_to_a_pipe_is_read(waves, tmp_path):
    whole, piped = tmp_path / "a.flac", tmp_path / "pipe.flac"
    soundfile.write(whole, waves[RATE], RATE)
    content = bytearray(whole.read_bytes())
    content[21] &= 0xF0  # STREAMINFO: the number of samples, 36 bits, 0 if unknown
    content[22:26] = bytes(4)
    piped.write_bytes(content)
    np.testing.assert_array_equal(decode(piped, AudioConfig()), decode(whole, AudioConfig()))
    content[len(content) // 2 : len(content) // 2 + 20] = bytes(20)
    piped.write_bytes(content)
    assert reason(piped) == "decode_error"


def test_the_content_decides_and_not_the_ending(waves, tmp_path):
    path = encode(tmp_path / "a.mp4", waves[FULL], FULL, "aac")
    for name in ("a.wav", "a.txt", "a"):
        other = tmp_path / name
        other.write_bytes(path.read_bytes())
        np.testing.assert_array_equal(decode(other, AudioConfig()), decode(path, AudioConfig()))


def test_text_with_the_ending_of_samples_without_a_header_is_not_audio(tmp_path):
    for ending in ("au", "snd", "vox", "gsm", "raw"):
        (tmp_path / f"a.{ending}").write_bytes(b"Dear Ann, this is not a recording at all.\n" * 400)
        with pytest.raises(AudioError, match=r"no header says its sample rate") as error:
            decode(tmp_path / f"a.{ending}", AudioConfig())
        assert error.value.reason == "not_audio"


def test_a_wav_called_raw_and_bare_gsm_are_read(waves, tmp_path):
    soundfile.write(tmp_path / "a.wav", waves[RATE], RATE)
    (tmp_path / "a.raw").write_bytes((tmp_path / "a.wav").read_bytes())
    assert np.array_equal(decode(tmp_path / "a.raw", AudioConfig()), decode(tmp_path / "a.wav", AudioConfig()))
    soundfile.write(tmp_path / "a.gsm", waves[8_000], 8_000, format="RAW", subtype="GSM610")
    gsm = decode(tmp_path / "a.gsm", AudioConfig())
    assert len(gsm) / RATE == pytest.approx(SECONDS, abs=0.03)
    assert loudest_level_db(gsm, RATE) == pytest.approx(loudest_level_db(waves[RATE], RATE), abs=3)


@pytest.mark.parametrize("length", [0, 0x7FFFF000, 0x7FFFFF00, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_wav_from_a_pipe_or_an_interrupted_recorder_is_whole(length, waves, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, waves[RATE], RATE)
    whole, content = decode(path, AudioConfig()), bytearray(path.read_bytes())
    for of_file in (0, min(length + 36, 0xFFFFFFFF), len(content) - 8):
        content[4:8], content[40:44] = (size.to_bytes(4, "little") for size in (of_file, length))
        path.write_bytes(content)
        assert np.array_equal(decode(path, AudioConfig()), whole)


def test_chunks_behind_no_samples_are_not_taken_for_samples(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), RATE)
    content = path.read_bytes() + b"LIST" + (8000).to_bytes(4, "little") + np.random.default_rng(0).bytes(8000)
    path.write_bytes(content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:])
    with pytest.raises(AudioError, match="a header without samples"):
        decode(path, AudioConfig())


@pytest.mark.parametrize(("name", "codec", "container"), [("a.mka", "flac", "matroska"), ("a.mp4", "aac", "mp4")])
def test_the_rumble_of_surround_sound_is_no_part_of_the_mix(name, codec, container, waves, tmp_path):
    voice, still = waves[FULL], 0 * waves[FULL]
    rumble = 0.5 * np.sin(2 * np.pi * 40 / FULL * np.arange(len(voice)))
    path = tmp_path / name
    encode(path, np.stack([still, still, voice, rumble, still, still], 1), FULL, codec, container, 384_000)
    decoded = decode(path, AudioConfig(sample_rate=FULL))
    assert lag_and_error(5 * decoded, voice)[1] < 0.05


def test_integers_of_64_bits_are_read(waves, tmp_path):
    path = encode(tmp_path / "a.wav", waves[RATE], RATE, "pcm_s64le")
    np.testing.assert_allclose(decode(path, AudioConfig()), waves[RATE], atol=1e-4)


def test_integer_samples_are_scaled_as_libsndfile_scales_them(tmp_path):
    wave = np.random.default_rng(0).uniform(-1, 1, (4000, 2))
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"):
        path = tmp_path / f"{subtype}.wav"
        soundfile.write(path, wave, RATE, subtype=subtype)
        with FfmpegFile(path) as file:
            samples = np.concatenate(list(file.blocks(1000)))
        np.testing.assert_array_equal(samples, soundfile.read(path, dtype="float32")[0], subtype)


def reason(path: Path, config: AudioConfig | None = None) -> str:
    with pytest.raises(AudioError) as caught:
        decode(path, config or AudioConfig())
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize(
    "name", ["a.m4a", "alac.m4a", "a.webm", "a.opus", "film.mp4", "film.mkv", "film.mov", "a.aiff"]
)
@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_a_file_that_was_cut_off_is_truncated(name, kept, waves, tmp_path):
    codec, container, rate, bit_rate, video = FORMATS[name]
    path = encode(tmp_path / name, waves[rate], rate, codec, container, bit_rate, video)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert reason(path) == "truncated"


@pytest.mark.parametrize("kind", ["AU", "W64", "RF64", "NIST", "CAF", "AIFF", "WAV"])
@pytest.mark.parametrize("kept", [0.5, 0.97])
def test_an_uncompressed_file_that_was_cut_off_is_truncated(kind, kept, waves, tmp_path):
    path = tmp_path / f"a.{kind.lower()}"
    soundfile.write(path, waves[RATE], RATE, format=kind, subtype="PCM_16")
    np.testing.assert_allclose(decode(path, AudioConfig()), waves[RATE], atol=1e-4)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert reason(path) == "truncated"


@pytest.mark.parametrize(("name", "codec"), [("a.opus", "libopus"), ("a.oga", "flac"), ("a.ogg", "vorbis")])
def test_an_ogg_file_with_a_damaged_page_is_not_read_in_part(name, codec, waves, tmp_path):
    path, wave = tmp_path / name, np.tile(waves[FULL], 4)
    if codec == "vorbis":
        soundfile.write(path, wave, FULL, format="OGG", subtype="VORBIS")
    else:
        encode(path, wave, FULL, codec, "ogg")
    assert len(decode(path, AudioConfig())) == pytest.approx(4 * SECONDS * RATE, abs=2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert reason(path) == "decode_error"
    for _, part, _ in decode_segments(path, [(0.0, 1.0), (3.0, 4.0)], AudioConfig()):
        assert isinstance(part, AudioError) and part.reason == "decode_error"


def test_the_checksum_of_an_ogg_page_is_that_of_libogg():
    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000), 8000, format="OGG")
    content = file.getvalue()

    def damage(content: bytes) -> str:
        return damaged_pages(io.BytesIO(content), content)

    assert damage(content) == ""
    assert damage(content + bytes(512)) == ""  # padding
    assert damage(content[:60] + b"junk" + content[60:]) == "1 page cannot be read"


def test_sound_that_is_missing_within_a_video_becomes_silence_with_a_note(waves, tmp_path):
    wave = np.tile(waves[FULL], 3)
    path = encode(tmp_path / "a.mkv", wave, FULL, "pcm_s16le", "matroska")
    content = path.read_bytes()
    blocks = [i for i in range(len(content) - 1) if content[i] == 0xA3 and content[i + 3 : i + 4] == b"\x81"]
    cut = bytearray(content)
    lost = [i for i in blocks if 0.3 * len(content) < i < 0.45 * len(content)]
    for i in lost:
        cut[i] = 0xEC  # a SimpleBlock becomes a Void
    path.write_bytes(cut)
    notes: list[str] = []
    decoded = decode(path, AudioConfig(sample_rate=FULL), notes=notes)
    tick = FULL // 1000  # Matroska's times are milliseconds
    assert len(decoded) == pytest.approx(len(wave), abs=tick)
    silent = np.flatnonzero(np.convolve(decoded == 0, np.ones(1000), "valid") == 1000)
    assert len(lost) > 10 and len(silent) > 0.1 * len(wave)
    assert f"missing from {silent[0] / FULL:.2f} s on" in notes[0]
    tail = min(abs(decoded[-FULL:] - wave[-FULL - n : len(wave) - n]).max() for n in range(tick))
    assert tail < 1e-4  # what follows is where it was
    assert [len(n) for _, _, n in decode_segments(path, [(3.0, 3.5)], AudioConfig())] == [1]


def test_segments_before_damage_are_read_and_those_behind_it_are_not(waves, tmp_path):
    path = encode(tmp_path / "a.aac", np.tile(waves[44_100], 8), 44_100, "aac", "adts")
    content = bytearray(path.read_bytes())
    frames = [i for i in range(len(content) - 1) if content[i] == 0xFF and content[i + 1] & 0xF6 == 0xF0]
    for start in frames[150:155]:  # at 3.5 s
        content[start + 7 : start + 60] = np.random.default_rng(start).bytes(53)
    path.write_bytes(content)
    results = {i: part for i, part, _ in decode_segments(path, [(0.5, 1.5), (3.0, 4.0), (6.0, 7.0)], AudioConfig())}
    assert isinstance(results[0], np.ndarray)
    for number in (1, 2):
        assert results[number].reason == "decode_error" and f"#t={[0, 3, 6][number]}" in str(results[number])


def test_packets_that_cannot_be_decoded_are_reported_after_the_good_ones(waves, tmp_path):
    path = encode(tmp_path / "a.aac", np.tile(waves[44_100], 8), 44_100, "aac", "adts")
    content = bytearray(path.read_bytes())
    frames = [i for i in range(len(content) - 1) if content[i] == 0xFF and content[i + 1] & 0xF6 == 0xF0]
    for start in frames[150:155]:
        content[start + 7 : start + 60] = np.random.default_rng(start).bytes(53)
    path.write_bytes(content)
    assert reason(path) == "decode_error"
    blocks = []
    with pytest.raises(AudioError, match=r"a\.aac: decode_error: \d+ packets? cannot be decoded"):
        blocks.extend(read_blocks(path, RATE))
    assert sum(map(len, blocks)) > 7 * SECONDS * RATE


@pytest.mark.parametrize(
    "name", ["a.m4a", "a.aac", "a.webm", "film.mkv", "a.wma", "a.amr", "film.mov", "a.mp3", "flac.oga"]
)
def test_no_damage_hangs_crashes_or_gives_unsound_samples(name, waves, tmp_path):
    more = {
        "a.wma": ("wmav2", "asf", 44_100, 128_000, False),
        "a.amr": ("libopencore_amrnb", "amr", 8_000, None, False),
    }
    codec, container, rate, bit_rate, video = (FORMATS | more)[name]
    path = encode(tmp_path / name, waves[rate], rate, codec, container, bit_rate, video)
    content, random = path.read_bytes(), np.random.default_rng(0)
    for i in range(12):
        damaged = bytearray(content)
        for at in random.integers(0, len(content) if i % 2 else 200, 1 + 4 * i):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged if i % 3 else damaged[: random.integers(len(damaged))])
        try:
            clip = decode(path, AudioConfig(max_seconds=3))
        except AudioError:
            continue
        assert np.isfinite(clip).all() and len(clip) <= 3 * RATE + 1


def test_a_file_without_sound_says_so(tmp_path):
    path = encode(tmp_path / "mute.mp4", np.zeros(FULL), FULL, "aac", video=True, streams=0)
    with pytest.raises(AudioError, match="not_audio: a video without sound"):
        decode(path, AudioConfig())


def test_of_several_audio_streams_one_is_used_with_a_note(waves, tmp_path):
    path = encode(tmp_path / "a.mkv", waves[FULL], FULL, "libopus", video=True, streams=2)
    notes: list[str] = []
    assert lag_and_error(decode(path, AudioConfig(), notes=notes), waves[RATE])[0] == 0
    assert notes == ["the file has 2 audio streams; number 1 is used"]


def test_a_long_video_raises_before_it_is_decoded_and_is_read_in_blocks(waves, tmp_path):
    path = encode(tmp_path / "a.mp4", np.tile(waves[8_000], 20), 8_000, "aac", video=True)
    assert reason(path, AudioConfig(max_seconds=5)) == "too_long"
    stream = encode(tmp_path / "a.aac", np.tile(waves[8_000], 20), 8_000, "aac", "adts")  # its header has no duration
    assert reason(stream, AudioConfig(max_seconds=5)) == "too_long"
    assert reason(stream, AudioConfig(max_seconds=20)) == "too_long"
    assert sum(map(len, read_blocks(path, RATE))) / RATE == pytest.approx(20 * SECONDS, abs=0.3)


def test_a_file_cannot_make_another_file_be_read(waves, tmp_path):
    secret = encode(tmp_path / "secret.mp3", waves[44_100], 44_100, "libmp3lame")
    texts = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n",
        "a.m4a": f"ffconcat version 1.0\nfile {secret.name}\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(FfmpegError):
            FfmpegFile(tmp_path / name)
    odd = tmp_path / "concat:secret.mp3"  # a name is no address
    odd.write_bytes(encode(tmp_path / "b.m4a", waves[44_100], 44_100, "aac").read_bytes())
    assert len(decode(odd, AudioConfig())) > RATE


def test_nothing_that_a_library_prints_reaches_the_terminal(waves, tmp_path):
    """A process of its own: pytest replaces standard error."""
    encode(tmp_path / "a.mp3", waves[44_100], 44_100, "libmp3lame", bit_rate=64_000)
    encode(tmp_path / "a.m4a", waves[44_100], 44_100, "aac")
    soundfile.write(tmp_path / "a.sds", waves[RATE], RATE)
    soundfile.write(tmp_path / "a.caf", waves[RATE], RATE, subtype="ALAC_16")
    soundfile.write(tmp_path / "a.wav", waves[RATE], RATE, subtype="FLOAT")
    encode(tmp_path / "a.mka", waves[RATE], RATE, "pcm_f64le", "matroska")
    for path in tmp_path.iterdir():
        content = bytearray(path.read_bytes())
        content[2000:5000] = np.random.default_rng(0).bytes(3000)
        path.write_bytes(content + b"tail")
    program = """
import os, sys, soundfile
from serx.data.audio.decoding import decode
from serx.data.audio.config import AudioConfig
from serx.data.audio.error import AudioError
for name in sorted(os.listdir()):
    try:
        decode(name, AudioConfig())
    except AudioError as error:
        print(name, error.reason)
os.write(2, b"mine\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stderr == "mine\n"
    reasons = dict(line.split() for line in done.stdout.splitlines())
    assert reasons.keys() >= {"a.caf", "a.sds", "a.wav", "a.mka"}
    assert (reasons["a.sds"], reasons["a.wav"]) == ("decode_error", "nonfinite")


def test_other_lines_on_standard_error_are_kept(capfd):
    with without_messages():
        print("before", file=sys.stderr)
        with without_messages():
            os.write(2, b"Note: Trying to resync...\n[src/libmpg123/layer3.c:10] error: dequantization failed!\nmine\n")
    assert capfd.readouterr().err == "before\nmine\n"


def test_the_audio_cache_keeps_warnings_with_the_clips(tmp_path):
    wave = speechlike(1.0, 150, 0)
    paths = [stereo(tmp_path / "a.wav", wave, -wave), stereo(tmp_path / "b.wav", wave, wave)]
    for _ in range(2):  # decoded, then opened
        warnings = open_audio_cache(paths, AudioConfig(), tmp_path / "cache", progress=False).warnings
        assert [*warnings] == [str(paths[0])] and "cancel each other" in warnings[str(paths[0])]


def test_a_stream_that_begins_late_in_a_damaged_broadcast_does_no_harm(waves, tmp_path):
    path = encode(tmp_path / "a.ts", waves[FULL], FULL, "mp2", "mpegts", 192_000)
    whole = decode(path, AudioConfig())
    packets = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 188).copy()
    numbers = (packets[:, 1].astype(int) & 0x1F) * 256 + packets[:, 2]
    packets[np.flatnonzero(numbers == 0)[0], 1:3] = 0x1F, 0xFF  # the first table of its programs
    begins = np.flatnonzero((numbers == 256) & (packets[:, 1] & 0x40 > 0))
    packets[begins[len(begins) * 3 // 4], 2] = 0x42  # a frame of sound gets another number
    path.write_bytes(packets.tobytes())
    decoded, half = decode(path, AudioConfig()), RATE // 2
    np.testing.assert_allclose(decoded[:half], whole[:half], atol=1e-4)
    assert len(whole) - 0.1 * RATE < len(decoded) < len(whole)


def test_more_channels_than_pyav_can_read_are_refused_with_a_reason(waves, tmp_path, monkeypatch):
    """With its limit lowered from 8 to 1: beyond its own, PyAV crashes or writes wrong files."""
    monkeypatch.setattr("serx.data.audio.ffmpeg.MAX_PLANES", 1)
    path = encode(tmp_path / "a.m4a", np.stack([waves[FULL]] * 2, 1), FULL, "aac", "mp4", 128_000)
    with pytest.raises(AudioError, match="too_many_channels: 2, at most 1 in this format; convert it to WAV"):
        decode(path, AudioConfig())
    mono = encode(tmp_path / "b.mkv", waves[FULL], FULL, "aac", "matroska", 128_000)
    assert len(decode(mono, AudioConfig())) >= len(waves[RATE])
    many = np.stack([waves[FULL]] * 16, 1)  # in one buffer
    soundfile.write(tmp_path / "a.wav", many, FULL, subtype="FLOAT")
    assert len(decode(tmp_path / "a.wav", AudioConfig())) == len(waves[RATE])
