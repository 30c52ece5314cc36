"""Planted leaks raise with the offenders; clean splits and different clips, synthetic or real, pass."""

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
from serx.data.leaks import NearDuplicate, check_copies, check_leaks, max_correlation, near_duplicates, thumbnails
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
def test_a_clean_split_passes(protocol):
    utterances = corpus()
    for fold in range(min(4, fold_count(utterances, ProtocolConfig(protocol=protocol)))):
        check_leaks(utterances, split_of(utterances, protocol, fold=fold), digests_of(utterances))


PAIRS = [("train", "test"), ("valid", "test"), ("train", "valid")]


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize("spelling", ["{}", "Actor_{}", "0{}"])
def test_a_speaker_in_two_parts_raises_with_the_speaker(first, second, spelling):
    utterances = corpus()
    split = split_of(utterances)
    clip, moved = utterances[getattr(split, first)[0]], getattr(split, second)[0]
    utterances[moved] = replace(utterances[moved], speaker=spelling.format(clip.speaker))
    with pytest.raises(LeakError, match=rf"speakers in two parts \(1\): {clip.speaker_id}.*{first} and {second}"):
        check_leaks(utterances, split, digests_of(utterances))


@pytest.mark.parametrize("protocol", ["luna5", "random"])
@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_same_audio_in_two_parts_raises_with_both_paths(protocol, first, second):
    utterances = corpus()
    split, digests = split_of(utterances, protocol), digests_of(utterances)
    i, j = random.Random(3).choice(getattr(split, first)), random.Random(4).choice(getattr(split, second))
    digests[j] = digests[i]
    with pytest.raises(LeakError, match=f"{utterances[i].path} .{first}. and {utterances[j].path} .{second}."):
        check_leaks(utterances, split, digests)


def test_the_same_audio_twice_in_one_part_passes():
    utterances = corpus()
    split, digests = split_of(utterances), digests_of(utterances)
    for part in (split.train, split.valid, split.test):
        digests[part[1]] = digests[part[0]]
    check_leaks(utterances, split, digests)


def test_speakers_may_be_shared_only_where_the_split_says_so():
    utterances = corpus()
    by_clips = split_of(utterances[-8:], "loso")  # two speakers: validation uses clips of the training speaker
    assert not by_clips.validation_independent
    check_leaks(utterances[-8:], by_clips, digests_of(utterances[-8:]))
    leaky = replace(by_clips, test=(*by_clips.test, by_clips.valid[0]), valid=by_clips.valid[1:])
    with pytest.raises(LeakError, match="tess/YAF .*train and test"):
        check_leaks(utterances[-8:], leaky, digests_of(utterances[-8:]))


def test_a_manifest_that_shares_speakers_raises():
    utterances = [replace(u, part="test" if u.path.stem.endswith("3") else "train") for u in corpus()]
    with pytest.raises(LeakError, match=r"speakers in two parts \(26\): .*ravdess/05 .*; and 21 more"):
        check_leaks(utterances, split_of(utterances, "manifest"), digests_of(utterances))


@pytest.fixture(scope="module")
def speech() -> list[np.ndarray]:
    """Synthetic clips of three speakers with the same statements and emotions."""
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


def resampled(wave, lower_rate, rate=RATE) -> np.ndarray:
    return soxr.resample(soxr.resample(wave, rate, lower_rate), lower_rate, rate).astype(np.float32)


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


def pairs_in_error(waves, parts) -> set[tuple[int, int]]:
    """The pairs of clips in the error message of `check_copies`."""
    utterances = [Utterance(Path(f"/own/{i}.wav"), "own", str(i), "angry") for i in range(len(waves))]
    split = Split(*(tuple(part) for part in parts), "", True, True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "MAX_SHOWN", len(waves) ** 2)
        try:
            check_copies(utterances, split, pictures_of(waves), waves.__getitem__)
        except LeakError as error:
            found = re.findall(r"/own/(\d+)\.wav \(\w+\) and /own/(\d+)\.wav", str(error))
            return {(int(first), int(second)) for first, second in found}
    return set()


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_in_another_part_raises_and_no_other_clip(speech, kind):
    copied, n = [2, 20, 33], len(speech)
    waves = [*speech, *(COPIES[kind](speech[i]) for i in copied)]
    assert pairs_in_error(waves, [range(n), [], range(n, len(waves))]) == {(i, n + k) for k, i in enumerate(copied)}
    assert pairs_in_error(waves, [range(len(waves)), [], []]) == set()  # within one part it is not a leak


def test_clips_with_the_same_rhythm_look_similar_but_are_not_copies():
    takes = [Take(1, "calm", False, 2, 1), Take(21, "sad", True, 2, 1)]
    waves = [take.samples(seed=0) for take in takes]
    assert near_duplicates(pictures_of(waves), [[0], [], [1]])  # nominated
    assert pairs_in_error(waves, [[0], [], [1]]) == set()


def test_the_error_for_a_copy_names_both_paths_and_parts(speech):
    utterances = [Utterance(Path(f"/own/{i}.wav"), "own", str(i), "angry") for i in range(4)]
    split = Split((0, 1), (2,), (3,), "", True, True)
    waves = [*speech[:3], 0.5 * speech[1]]
    with pytest.raises(LeakError, match=r"/own/1.wav \(train\) and /own/3.wav \(test\): 1.000"):
        check_copies(utterances, split, pictures_of(waves), waves.__getitem__)
    check_copies(utterances, replace(split, train=(0,), test=(1, 3)), pictures_of(waves), waves.__getitem__)


def test_max_correlation_finds_any_offset_and_polarity():
    random = np.random.default_rng(0)
    noise, other_noise = random.standard_normal(5000), random.standard_normal(4000)
    assert max_correlation(noise, -3 * np.pad(noise, (700, 10))) == pytest.approx(1)
    assert max_correlation(noise, other_noise) < 0.1
    assert max_correlation(noise, noise + random.standard_normal(5000)) == pytest.approx(2**-0.5, abs=0.05)
    assert max_correlation(noise, np.zeros(10)) == 0


def test_a_thumbnail_does_not_depend_on_the_batch_the_padding_or_the_level(speech):
    together = pictures_of(speech[:8], extra=4_000)
    for wave, picture in zip(speech, together, strict=False):
        torch.testing.assert_close(pictures_of([wave])[0], picture, rtol=0, atol=1e-5)
        torch.testing.assert_close(pictures_of([0.01 * wave])[0], picture, rtol=0, atol=1e-5)
    whole, trimmed = together.chunk(2, dim=1)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(8))
    torch.testing.assert_close(trimmed.norm(dim=1), torch.ones(8))


def test_silence_and_a_steady_hum_are_similar_to_nothing(speech):
    hum = 0.1 * np.sin(2 * np.pi * 400 * np.arange(2 * RATE) / RATE).astype(np.float32)
    pictures = pictures_of([np.zeros(RATE, np.float32), np.zeros(10, np.float32), hum, 0.5 * speech[0]])
    assert pictures.isfinite().all()
    assert near_duplicates(pictures, [[0], [1], [2, 3]]) == []
    assert pictures[:2].abs().max() < 1e-3
    assert pictures[2].chunk(2)[1].norm() < 1e-2  # after trimming its frames are equal, and only rounding is left


def test_the_similarity_matrix_is_the_same_in_blocks_of_rows(speech, monkeypatch):
    pictures = pictures_of([*speech, *(0.5 * wave for wave in speech)])
    parts = [range(len(speech)), range(len(speech), 2 * len(speech))]
    whole = near_duplicates(pictures, parts)
    monkeypatch.setattr("serx.data.leaks.ROWS", 7)
    assert [(a.first, a.second) for a in near_duplicates(pictures, parts)] == [(a.first, a.second) for a in whole]
    assert {(a.first, a.second) for a in whole} >= {(i, i + len(speech)) for i in range(len(speech))}


def test_near_duplicates_are_sorted_by_similarity():
    pictures = torch.tensor([[1, 0, 0, 0], [0.97, 0.243, 0, 0], [0, 0, 0, 1], [0.99, 0.141, 0, 0]])
    found = near_duplicates(pictures, [[0], [1, 2, 3]])
    assert found == [NearDuplicate(0, 3, pytest.approx(0.99)), NearDuplicate(0, 1, pytest.approx(0.97))]


def decoded(paths) -> list[np.ndarray]:
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


@pytest.mark.speech
def test_the_only_copy_in_real_speech_is_the_clip_that_ravdess_has_twice(speech_root):
    paths = sorted(speech_root.glob("ravdess16k/*/*.flac")) + sorted(speech_root.glob("tess16k/*_sad/*.flac"))
    pairs = pairs_in_error(decoded(paths), [range(0, len(paths), 2), [], range(1, len(paths), 2)])
    stems = [{paths[i].stem, paths[j].stem} for i, j in pairs]
    assert stems == [{"03-01-03-01-02-01-07", "03-01-03-01-02-02-07"}]


@pytest.mark.speech
def test_copies_of_real_speech_raise(speech_root):
    paths = sorted(speech_root.glob("ravdess16k/*/*.flac"))[::100] + sorted(speech_root.glob("tess16k/*/*.flac"))[::150]
    waves, n = decoded(paths), len(paths)
    for kind, copy in COPIES.items():
        pairs = pairs_in_error([*waves, *map(copy, waves)], [range(n), [], range(n, 2 * n)])
        assert pairs == {(i, n + i) for i in range(n)}, kind


@pytest.mark.speech
def test_a_recording_is_similar_to_its_copy_at_another_rate(speech_root):
    for path in sorted(speech_root.glob("ravdess-native/*/*.wav")):
        native, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = native.mean(1)
        low = decoded([speech_root / "ravdess16k" / path.parent.name / f"{path.stem}.flac"])
        pictures = torch.cat([pictures_of([mono, resampled(mono, 16_000, rate)], rate), pictures_of(low)])
        assert len(near_duplicates(pictures, [[0], [1], [2]], min_similarity=0.999)) == 3
