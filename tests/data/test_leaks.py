"""Every planted leak is refused by name; clean splits and different clips, made up or real, raise no alarm."""

import io
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from serx.data import leaks
from serx.data.leaks import NearDuplicate, alignment, check_copies, check_leaks, near_duplicates, thumbnails
from serx.data.protocols import ProtocolConfig, Split, fold_count, make_split
from serx.data.synthetic.corpus import Take, list_takes
from serx.data.utterance import Utterance
from serx.errors import LeakError
from tests.conftest import RATE, batched

PROTOCOLS = ["luna5", "emobox6", "holdout", "kfold", "loso", "cross_corpus", "random"]


def corpus() -> list[Utterance]:
    """24 actors of RAVDESS and two speakers of another corpus, four clips each."""
    names = [("ravdess", f"{n:02d}") for n in range(1, 25)] + [("tess", "OAF"), ("tess", "YAF")]
    return [
        Utterance(Path(f"/{corpus}/{speaker}-{take}.wav"), corpus, speaker, ("angry", "sad")[take % 2])
        for corpus, speaker in names
        for take in range(4)
    ]


def digests_of(utterances) -> list[str]:
    return [str(u.path) for u in utterances]


def split_of(utterances, protocol="luna5", **keys) -> Split:
    targets = [int(u.emotion == "sad") for u in utterances]
    return make_split(utterances, targets, ProtocolConfig(protocol=protocol, **keys), digests_of(utterances))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_clean_corpus_raises_no_alarm(protocol):
    utterances = corpus()
    for fold in range(min(4, fold_count(utterances, ProtocolConfig(protocol=protocol)))):
        check_leaks(utterances, split_of(utterances, protocol, fold=fold), digests_of(utterances))


PAIRS = [("train", "test"), ("valid", "test"), ("train", "valid")]


@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.parametrize("spelling", ["{}", "Actor_{}", "0{}"])
def test_a_speaker_in_two_parts_is_refused_by_name(one, other, spelling):
    utterances = corpus()
    split = split_of(utterances)
    victim, target = utterances[getattr(split, one)[0]], getattr(split, other)[0]
    utterances[target] = replace(utterances[target], speaker=spelling.format(victim.speaker))
    with pytest.raises(LeakError, match=rf"speakers in two parts \(1\): {victim.speaker_id}.*{one} and {other}"):
        check_leaks(utterances, split, digests_of(utterances))


@pytest.mark.parametrize("protocol", ["luna5", "random"])
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_the_same_audio_in_two_parts_is_refused_with_both_paths(protocol, one, other):
    utterances = corpus()
    split, digests = split_of(utterances, protocol), digests_of(utterances)
    i, j = random.Random(3).choice(getattr(split, one)), random.Random(4).choice(getattr(split, other))
    digests[j] = digests[i]
    with pytest.raises(LeakError, match=f"{utterances[i].path} .{one}. and {utterances[j].path} .{other}."):
        check_leaks(utterances, split, digests)


def test_twins_within_one_part_are_no_leak():
    utterances = corpus()
    split, digests = split_of(utterances), digests_of(utterances)
    for part in (split.train, split.valid, split.test):
        digests[part[1]] = digests[part[0]]
    check_leaks(utterances, split, digests)


def test_admitted_sharing_is_let_through_and_no_other():
    utterances = corpus()
    by_clips = split_of(utterances[-8:], "loso")  # two speakers: clips of the training speaker validate
    assert not by_clips.validation_independent
    check_leaks(utterances[-8:], by_clips, digests_of(utterances[-8:]))
    leaky = replace(by_clips, test=(*by_clips.test, by_clips.valid[0]), valid=by_clips.valid[1:])
    with pytest.raises(LeakError, match="tess/YAF .*train and test"):
        check_leaks(utterances[-8:], leaky, digests_of(utterances[-8:]))


def test_a_manifest_that_shares_a_speaker_is_refused():
    utterances = [replace(u, part="test" if u.path.stem.endswith("3") else "train") for u in corpus()]
    with pytest.raises(LeakError, match=r"speakers in two parts \(26\): .*ravdess/05 .*; and 21 more"):
        check_leaks(utterances, split_of(utterances, "manifest"), digests_of(utterances))


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    """Made-up clips of three speakers, same statements and emotions."""
    return [take.samples(seed=0) for take in list_takes(3, 2)]


def pictures_of(waves, rate=RATE, extra=0) -> torch.Tensor:
    chunks = (batched(list(waves[i : i + 16]), extra) for i in range(0, len(waves), 16))
    return torch.cat([thumbnails(wave, lengths, rate) for wave, lengths in chunks])


def encoded(wave, container, subtype, level) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format=container, subtype=subtype, compression_level=level)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def pcm16(wave) -> np.ndarray:
    return (np.clip(np.round(wave * 32768), -32768, 32767) / 32768).astype(np.float32)


def resampled(wave, there, rate=RATE) -> np.ndarray:
    return soxr.resample(soxr.resample(wave, rate, there), there, rate).astype(np.float32)


COPIES = {
    "20 dB softer": lambda x: pcm16(0.1 * x),
    "6 dB louder": lambda x: pcm16(2 * x),
    "16 bits": pcm16,
    "ogg": lambda x: encoded(x, "OGG", "VORBIS", 0.5),
    "worst ogg": lambda x: encoded(x, "OGG", "VORBIS", 1.0),
    "mp3": lambda x: encoded(x, "MP3", "MPEG_LAYER_III", 0.0),
    "small mp3": lambda x: encoded(x, "MP3", "MPEG_LAYER_III", 0.5),
    "8 kHz": lambda x: resampled(x, 8_000),
    "44.1 kHz": lambda x: resampled(x, 44_100),
    "70 ms later": lambda x: np.pad(x, (1_105, 500)),
}


def refused_pairs(waves, parts) -> set[tuple[int, int]]:
    """The pairs of clips that `check_copies` refuses, read from its message."""
    utterances = [Utterance(Path(f"/own/{i}.wav"), "own", str(i), "angry") for i in range(len(waves))]
    split = Split(*(tuple(part) for part in parts), "", True, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "SHOWN", len(waves) ** 2)
        try:
            check_copies(utterances, split, pictures_of(waves), waves.__getitem__)
        except LeakError as error:
            found = re.findall(r"/own/(\d+)\.wav \(\w+\) and /own/(\d+)\.wav", str(error))
            return {(int(one), int(other)) for one, other in found}
    return set()


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_in_another_part_is_refused_and_nothing_else(speech, kind):
    copied, n = [2, 20, 33], len(speech)
    waves = [*speech, *(COPIES[kind](speech[i]) for i in copied)]
    assert refused_pairs(waves, [range(n), [], range(n, len(waves))]) == {(i, n + k) for k, i in enumerate(copied)}
    assert refused_pairs(waves, [range(len(waves)), [], []]) == set()  # within one part: no leak


def test_voices_that_keep_one_rhythm_look_alike_but_are_no_copies():
    takes = [Take(1, "calm", False, 2, 1), Take(21, "sad", True, 2, 1)]
    waves = [take.samples(seed=0) for take in takes]
    assert near_duplicates(pictures_of(waves), [[0], [], [1]])  # nominated
    assert refused_pairs(waves, [[0], [], [1]]) == set()


def test_a_copy_is_refused_with_both_paths_and_their_parts(speech):
    utterances = [Utterance(Path(f"/own/{i}.wav"), "own", str(i), "angry") for i in range(4)]
    split = Split((0, 1), (2,), (3,), "", True, True)
    waves = [*speech[:3], 0.5 * speech[1]]
    with pytest.raises(LeakError, match=r"/own/1.wav \(train\) and /own/3.wav \(test\): 1.000"):
        check_copies(utterances, split, pictures_of(waves), waves.__getitem__)
    check_copies(utterances, replace(split, train=(0,), test=(1, 3)), pictures_of(waves), waves.__getitem__)


def test_alignment_finds_the_offset_and_takes_either_polarity():
    random = np.random.default_rng(0)
    one, other = random.standard_normal(5000), random.standard_normal(4000)
    assert alignment(one, -3 * np.pad(one, (700, 10))) == pytest.approx(1)
    assert alignment(one, other) < 0.1
    assert alignment(one, one + random.standard_normal(5000)) == pytest.approx(2**-0.5, abs=0.05)
    assert alignment(one, np.zeros(10)) == 0


def test_a_thumbnail_knows_neither_neighbours_nor_padding_nor_level(speech):
    together = pictures_of(speech[:8], extra=4_000)
    for wave, picture in zip(speech, together, strict=False):
        torch.testing.assert_close(pictures_of([wave])[0], picture, rtol=0, atol=1e-5)
        torch.testing.assert_close(pictures_of([0.01 * wave])[0], picture, rtol=0, atol=1e-5)
    whole, trimmed = together.chunk(2, dim=1)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(trimmed.norm(dim=1), torch.ones(8))


def test_silence_and_a_steady_hum_are_like_nothing(speech):
    hum = 0.1 * np.sin(2 * np.pi * 400 * np.arange(2 * RATE) / RATE).astype(np.float32)
    pictures = pictures_of([np.zeros(RATE, np.float32), np.zeros(10, np.float32), hum, 0.5 * speech[0]])
    assert pictures.isfinite().all()
    assert near_duplicates(pictures, [[0], [1], [2, 3]]) == []
    assert pictures[:2].abs().max() < 1e-3
    assert pictures[2].chunk(2)[1].norm() < 1e-2  # trimmed, its frames are equal: nothing but rounding is left


def test_the_table_of_likenesses_is_the_same_in_pieces(speech, monkeypatch):
    pictures = pictures_of([*speech, *(0.5 * wave for wave in speech)])
    parts = [range(len(speech)), range(len(speech), 2 * len(speech))]
    at_once = near_duplicates(pictures, parts)
    monkeypatch.setattr("serx.data.leaks.ROWS", 7)
    assert [(a.first, a.second) for a in near_duplicates(pictures, parts)] == [(a.first, a.second) for a in at_once]
    assert {(a.first, a.second) for a in at_once} >= {(i, i + len(speech)) for i in range(len(speech))}


def test_near_duplicates_come_most_alike_first():
    pictures = torch.tensor([[1, 0, 0, 0], [0.97, 0.243, 0, 0], [0, 0, 0, 1], [0.99, 0.141, 0, 0]])
    found = near_duplicates(pictures, [[0], [1, 2, 3]])
    assert found == [NearDuplicate(0, 3, pytest.approx(0.99)), NearDuplicate(0, 1, pytest.approx(0.97))]


def decoded(paths) -> list[np.ndarray]:
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


@pytest.mark.speech
def test_real_speech_raises_no_alarm_but_for_the_clip_that_ravdess_holds_twice(speech_root):
    paths = sorted(speech_root.glob("ravdess16k/*/*.flac")) + sorted(speech_root.glob("tess16k/*_sad/*.flac"))
    pairs = refused_pairs(decoded(paths), [range(0, len(paths), 2), [], range(1, len(paths), 2)])
    twins = [{paths[one].stem, paths[other].stem} for one, other in pairs]
    assert twins == [{"03-01-03-01-02-01-07", "03-01-03-01-02-02-07"}]


@pytest.mark.speech
def test_copies_of_real_speech_are_refused(speech_root):
    paths = sorted(speech_root.glob("ravdess16k/*/*.flac"))[::100] + sorted(speech_root.glob("tess16k/*/*.flac"))[::150]
    waves, n = decoded(paths), len(paths)
    for kind, copy in COPIES.items():
        pairs = refused_pairs([*waves, *map(copy, waves)], [range(n), [], range(n, 2 * n)])
        assert pairs == {(i, n + i) for i in range(n)}, kind


@pytest.mark.speech
def test_a_recording_is_like_its_copy_at_another_rate(speech_root):
    for path in sorted(speech_root.glob("ravdess-native/*/*.wav")):
        native, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = native.mean(1)
        low = decoded([speech_root / "ravdess16k" / path.parent.name / f"{path.stem}.flac"])
        pictures = torch.cat([pictures_of([mono, resampled(mono, 16_000, rate)], rate), pictures_of(low)])
        assert len(near_duplicates(pictures, [[0], [1], [2]], threshold=0.999)) == 3
