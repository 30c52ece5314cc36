"""Segments of long files: the same clip as a file of its own, decoded once, and never in two parts of a split."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from serx.data.audio import sound_file
from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import decode
from serx.data.audio.error import AudioError
from serx.data.audio.segments import decode_segments
from serx.data.cache.audio_cache import open_audio_cache
from serx.data.dataset import DataConfig, load_dataset, split_dataset
from serx.data.scanning.scanner import scan
from serx.data.splits.leaks import check_leaks
from serx.data.splits.protocol_config import ProtocolConfig
from serx.data.splits.protocols import Split, make_split
from serx.data.utterance import Segment, Utterance
from serx.data.utterances import overlapping
from serx.errors import DataError, LeakError
from tests.data.encoding import encode
from tests.test_cli import run_here

HEADER = "path,emotion,speaker,start,end"


def talk(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """`(T, channels)` of noise in bursts with silence between, 16-bit values."""
    random = np.random.default_rng(seed)
    count = round(seconds * rate)
    loud = np.repeat(random.uniform(0, 1, -(-count // rate) * 4) > 0.4, -(-rate // 4))[:count]
    wave = random.normal(0, 0.1, (count, channels)) * np.where(loud, 1.0, 1e-3)[:, None]
    return np.round(wave.clip(-1, 1) * 32767) / 32768


def decoded(path: Path, spans, config: AudioConfig) -> list[np.ndarray | AudioError]:
    found = {number: waveform for number, waveform, _ in decode_segments(path, spans, config)}
    assert sorted(found) == list(range(len(spans)))
    return [found[number] for number in range(len(spans))]


SPANS = [(0.0, 1.3), (0.7, 2.05), (2.5, 7.25), (9.1234567, 9.9), (0.7, 2.05), (11.5, None), (3.0, 4.0), (0.0, None)]
CONFIGS = (
    AudioConfig(),
    AudioConfig(trim_db=30.0),
    AudioConfig(offset_seconds=0.1, duration_seconds=0.5),
    AudioConfig(sample_rate=8000),
    AudioConfig(channel="left"),
)


@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 16_000, 1), ("a.wav", 44_100, 2), ("a.flac", 22_050, 1), ("a.ogg", 16_000, 1), ("a.mp3", 44_100, 2)],
)
def test_a_segment_is_the_same_clip_as_a_file_of_its_own(tmp_path, name, rate, channels) -> None:
    path = tmp_path / name
    wave = talk(12, rate, channels) + 0.05  # with an offset to remove
    wave[round(2.4 * rate) : round(5 * rate), -1] *= -1
    soundfile.write(path, wave, rate)
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0]
    for number, (start, end) in enumerate(SPANS):
        part = whole[round(start * rate) : None if end is None else round(end * rate)]
        soundfile.write(tmp_path / f"{number}.wav", part, rate, subtype="FLOAT")
    for config in CONFIGS:
        for number, clip in enumerate(decoded(path, SPANS, config)):
            assert np.array_equal(clip, decode(tmp_path / f"{number}.wav", config))


def test_channels_that_cancel_are_judged_within_the_segment(tmp_path) -> None:
    wave = np.repeat(talk(6, 16_000), 2, axis=1)
    wave[48_000:, 1] *= -1
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    first, second = decode_segments(tmp_path / "a.wav", [(0, 3), (3, 6)], AudioConfig())
    assert not first[2] and "cancel each other" in second[2][0]
    assert np.allclose(np.concatenate([first[1], second[1]]), wave[:, 0], atol=1e-6)


def test_segments_of_what_ffmpeg_decodes_are_those_of_the_whole(tmp_path) -> None:
    path = encode(tmp_path / "a.m4a", talk(5, 16_000)[:, 0], 16_000, "aac")
    whole = decode(path, AudioConfig())
    first, second = decoded(path, [(0.5, 1.5), (1.0, 4.25)], AudioConfig())
    assert np.array_equal(first, whole[8_000:24_000]) and np.array_equal(second, whole[16_000:68_000])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("b.m4a", "alac"), ("a.mp3", "libmp3lame"), ("a.opus", "libopus"), ("a.webm", "libopus")],
)
def test_segments_of_formats_with_encoder_delay_begin_at_the_sample_of_their_wav(tmp_path, name, codec) -> None:
    wave, rate = talk(4, 16_000)[:, 0], 16_000
    time = np.arange(800) / rate
    for start in range(rate // 2, 4 * rate - 800, rate // 2):  # sounds that are found again to the sample
        wave[start : start + 800] += 0.5 * np.sin(2 * np.pi * (300 * time + 20_000 * time**2)) * np.hanning(800)
    soundfile.write(tmp_path / "a.wav", wave, rate)
    spans = [(0.0, 1.2), (0.7, 2.0), (1.25, 3.5), (1.25, 2.0)]
    clips = decoded(encode(tmp_path / name, wave, rate, codec), spans, AudioConfig())
    for clip, reference in zip(clips, decoded(tmp_path / "a.wav", spans, AudioConfig()), strict=True):
        assert len(clip) == len(reference)
        spectra = np.fft.rfft([clip, reference], 2 * len(clip))
        correlation = np.fft.irfft(spectra[0] * spectra[1].conj())
        assert correlation.argmax() == 0 and correlation[0] > 0.5 * np.square(reference).sum()


def test_a_long_file_is_opened_once_and_gaps_are_skipped(tmp_path, monkeypatch) -> None:
    soundfile.write(tmp_path / "a.wav", talk(60, 16_000), 16_000)
    opened, read = [], []

    class Counted(sound_file._SoundFile):
        def __init__(self, *args, **kwargs):
            opened.append(args)
            super().__init__(*args, **kwargs)

        def buffer_read_into(self, *args, **kwargs):
            read.append(super().buffer_read_into(*args, **kwargs))
            return read[-1]

    monkeypatch.setattr(sound_file, "_SoundFile", Counted)
    segments = [Segment(tmp_path / "a.wav", start, start + 1) for start in (50, 1, 1.5, 20)]
    cache = open_audio_cache(segments, AudioConfig(), tmp_path / "cache", progress=False)
    assert len(opened) == 1 and sum(read) < 30 * 16_000
    whole = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    for i, segment in enumerate(segments):
        assert np.array_equal(cache.clip(i), whole[round(segment.start * 16_000) :][:16_000])


@pytest.mark.parametrize(
    ("start", "end", "fits"), [(9, 10, 1), (9, 10.01, 1), (9, 10.02, 0), (10, None, 0), (9, None, 1)]
)
@pytest.mark.parametrize("name", ["a.wav", "a.mka"])
def test_a_segment_beyond_its_file_is_refused(tmp_path, name, start, end, fits) -> None:
    path, wave = tmp_path / name, talk(10, 16_000)
    soundfile.write(path, wave, 16_000) if name == "a.wav" else encode(path, wave[:, 0], 16_000, "pcm_s16le")
    (clip,) = decoded(path, [(start, end)], AudioConfig())
    if fits:
        assert len(clip) == 16_000
    else:
        assert (clip.reason, clip.detail) == ("out_of_range", "the file has 10.000 s")


def test_only_the_segment_must_be_short(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", talk(10, 16_000), 16_000)
    config = AudioConfig(max_seconds=3.0, min_seconds=0.5)
    fits, long, open_end, short = decoded(tmp_path / "a.wav", [(1, 4), (1, 5), (2, None), (1, 1.2)], config)
    assert len(fits) == 48_000
    assert (long.reason, open_end.reason, short.reason) == ("too_long", "too_long", "too_short")
    assert str(long).startswith(f"{tmp_path / 'a.wav'}#t=1,5: too_long")


def test_a_cut_file_has_no_segments(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", talk(10, 16_000), 16_000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-16_000])
    assert [clip.reason for clip in decoded(tmp_path / "a.wav", [(1, 2), (9, 10)], AudioConfig())] == ["truncated"] * 2


def test_the_cache_of_other_segments_is_another_one(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", talk(3, 16_000), 16_000)
    path = tmp_path / "a.wav"
    lengths = [
        open_audio_cache([Segment(path, *span)], AudioConfig(), tmp_path / "cache", progress=False).lengths.tolist()
        for span in [(0, 1.0), (0, 1.5), (0.5, 1.5), (0, None)]
    ]
    assert lengths == [[16_000], [24_000], [16_000], [48_000]]


def table(folder: Path, rows: str, header: str = HEADER) -> Path:
    (folder / "own.csv").write_text(f"{header}\n{rows}")
    return folder / "own.csv"


@pytest.fixture
def meeting(tmp_path: Path) -> Path:
    """Two files of 20 s, in which four people speak, one second each, with overlaps of two people."""
    rows = []
    for number in (0, 1):
        soundfile.write(tmp_path / f"talk{number}.wav", talk(20, 16_000, seed=number), 16_000)
        for second in range(18):
            emotion, speaker = ("sad", "angry")[second % 2], 2 * number + second // 9
            rows.append(f"talk{number}.wav,{emotion},p{speaker},{second},{second + 1 + 0.5 * (second == 4)}\n")
    return table(tmp_path, "".join(rows))


def config_of(root: Path, **settings) -> DataConfig:
    return DataConfig(root=str(root), cache=str(root.parent / "cache"), **settings)


def test_segments_become_clips_of_a_dataset(meeting) -> None:
    dataset = load_dataset(config_of(meeting), progress=False)
    assert len(dataset.utterances) == 36
    for i, utterance in enumerate(dataset.utterances):
        whole = soundfile.read(utterance.path, dtype="int16")[0]
        part = whole[round(utterance.start * 16_000) : round(utterance.end * 16_000)]
        assert np.array_equal(dataset.audio_cache.clip(i), part)
    split = split_dataset(dataset, config_of(meeting, protocol="kfold", folds=4), progress=False)
    assert split.speaker_independent


def test_a_segment_beyond_its_file_stops_the_run_with_file_and_line(meeting) -> None:
    meeting.write_text(f"{meeting.read_text()}talk0.wav,sad,p0,19,20.5\ntalk1.wav,sad,p2,19000,20000\n")
    with pytest.raises(DataError) as caught:
        load_dataset(config_of(meeting), progress=False)
    assert str(caught.value).splitlines() == [
        "own.csv:38: talk0.wav#t=19,20.5 is not within its file: the file has 20.000 s; correct start and end, in "
        "seconds",
        "own.csv:39: talk1.wav#t=19000,20000 is not within its file: the file has 20.000 s; correct start and end, in "
        "seconds",
    ]


def clips(spans, speakers: str = "a", path: str = "/talk.wav") -> list[Utterance]:
    return [
        Utterance(Path(path), "own", speakers[i % len(speakers)], "sad", start=start, end=end)
        for i, (start, end) in enumerate(spans)
    ]


def test_overlaps_are_shared_moments_of_one_file() -> None:
    spans = [(0.0, 2.0), (2.0, 3.0), (1.0, 1.5), (2.5, None), (100.0, 101.0)]
    assert overlapping(clips(spans)) == [(0, 2), (1, 3), (3, 4)]
    assert overlapping(clips(spans[:1]) + clips(spans[:1], path="/other.wav")) == []


def test_overlapping_segments_stay_in_one_part_when_clips_are_drawn() -> None:
    spans = [(float(n), n + (1.5 if n % 3 else 1.0)) for n in range(60)]  # three in a row overlap
    talked = clips(spans)
    for seed in range(5):
        split = make_split(talked, [0] * 60, ProtocolConfig(protocol="random", split_seed=seed))
        part = {i: name for name in ("train", "valid", "test") for i in getattr(split, name)}
        assert all(part[i] == part[j] for i, j in overlapping(talked))
        assert len(overlapping(talked)) == 39 and all((split.train, split.valid, split.test))
        check_leaks(talked, split, [str(clip.segment) for clip in talked])


@pytest.mark.parametrize("independent", [True, False])
def test_overlapping_talk_of_two_speakers_in_two_parts_is_a_leak(independent) -> None:
    talked = clips([(0.0, 2.0), (1.5, 3.0), (3.0, 4.0)], speakers="abc")
    split = Split((0,), (), (1,), "", independent, independent)
    with pytest.raises(LeakError) as caught:
        check_leaks(talked, split, ["x", "y", "z"])
    assert str(caught.value).startswith(
        "overlapping segments in two parts (1): /talk.wav#t=0,2 (train) and /talk.wav#t=1.5,3 (test); cut them so that"
    )
    check_leaks(talked, Split((0, 1), (), (2,), "", independent, independent), ["x", "y", "z"])


def test_overlaps_are_found_through_links(tmp_path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    spans = [(0.0, 2.0)]
    assert overlapping(clips(spans, path=f"{tmp_path}/a.wav") + clips(spans, path=f"{tmp_path}/b.wav")) == [(0, 1)]


def test_a_file_whose_parts_a_table_lists_is_no_clip_of_its_own(tmp_path) -> None:
    name = "03-01-05-01-01-01-01.wav"
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / name).touch()
    (tmp_path / "r" / "03-01-04-01-01-01-02.wav").touch()
    header = f"{HEADER},corpus"
    rows = table(tmp_path, f"r/{name},sad,1,0,1,ravdess\nr/{name},angry,1,1,2,ravdess\n", header)
    found = scan([rows, tmp_path / "r"])
    assert [clip.segment.name for clip in found.utterances] == [
        f"{name}#t=0,1", f"{name}#t=1,2", "03-01-04-01-01-01-02.wav",
    ]  # fmt: skip
    assert [(file.path.name, file.reason, file.detail) for file in found.skipped] == [
        (name, "duplicate", "own.csv:2 lists a part of it")
    ]
    table(tmp_path, f"r/{name},sad,2,0,1,ravdess\n", header)
    with pytest.raises(DataError, match=r"own\.csv:2: .*#t=0,1' is described differently by .* \(speaker 02, not 01\)"):
        scan([rows, tmp_path / "r"])


def test_two_tables_may_list_other_segments_of_one_file_and_must_agree_on_the_same(tmp_path) -> None:
    (tmp_path / "a.wav").touch()
    first = table(tmp_path, "a.wav,sad,1,0,1\na.wav,sad,1,2,3\n")
    second = tmp_path / "own2.csv"
    second.write_text(f"{HEADER},corpus\na.wav,happy,1,1,2,own\na.wav,sad,1,2,3,own\n")
    assert [clip.start for clip in scan([first, second]).utterances] == [0.0, 1.0, 2.0]
    second.write_text(f"{HEADER},corpus\na.wav,happy,1,2,3,own\n")
    with pytest.raises(
        DataError, match=r"own2\.csv:2: 'a\.wav#t=2,3' is described differently by own\.csv:3 \(emotion"
    ):
        scan([first, second])


def test_a_tie_of_votes_stops_the_run_unless_votes_are_learned(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", talk(3, 16_000), 16_000)
    rows = "a.wav,1,0,1,2,2\na.wav,1,1,2,0,1\na.wav,1,2,3,1,0\n"
    root = table(tmp_path, rows, "path,speaker,start,end,emotion.happy,emotion.sad")
    with pytest.raises(DataError, match="^own.csv:2: a tie: happy and sad have 2 each; choose one in a column emotion"):
        load_dataset(config_of(root), progress=False)
    assert len(load_dataset(config_of(root, labels_from="votes"), progress=False).utterances) == 3


def test_the_audit_verifies_all_decoded_audio_and_tells_segments_apart(meeting) -> None:
    config = meeting.parent / "net.yaml"
    data = f"root: {meeting}, cache: {meeting.parent / 'cache'}, protocol: kfold, folds: 4"
    config.write_text(f"data: {{{data}}}\nmodel: {{kind: cnn1d}}\n")
    first = run_here("audit", "--config", config, "--verify", cwd=meeting.parent)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.startswith("verified: 36 clips, 1.2 MB of decoded audio are as written; decoded now: 36\n")
    flat = next(meeting.parent.glob("cache/*/0000.int16"))
    flat.write_bytes(b"\0\0" + flat.read_bytes()[2:])
    again = run_here("audit", "--config", config, "--verify", cwd=meeting.parent)
    assert again.stdout.startswith("verified: 36 clips, 1.2 MB of decoded audio are as written; decoded now: 1\n")
