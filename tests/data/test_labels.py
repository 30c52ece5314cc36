from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serx.data.labels import EMOTIONS, SYNONYMS, assign_labels, normalize_emotion, only_shared, order_labels
from serx.data.utterance import Utterance
from serx.errors import DataError


def clips(*emotions: str, corpus: str = "ravdess") -> list[Utterance]:
    return [Utterance(Path(f"/{corpus}/{n}.wav"), corpus, "01", emotion) for n, emotion in enumerate(emotions)]


def complaint(
    utterances: Sequence[Utterance], labels: Sequence[str] | None, label_map: Mapping[str, str | None]
) -> str:
    with pytest.raises(DataError) as caught:
        assign_labels(utterances, labels, label_map)
    return str(caught.value)


def test_auto_labels_are_the_emotions_present_in_canonical_order_then_the_others() -> None:
    corpus = assign_labels(clips("joy", "sad", "awe", "neutral", "sad"), None, {})
    assert corpus.labels == ("neutral", "sad", "awe", "joy")
    assert corpus.targets == [3, 1, 2, 0, 1]
    assert corpus.dropped == {}
    assert corpus.absent == ()


def test_explicit_labels_keep_their_order() -> None:
    corpus = assign_labels(clips("sad", "happy"), ("happy", "sad"), {})
    assert (corpus.labels, corpus.targets) == (("happy", "sad"), [1, 0])


def test_a_rename_moves_the_clips_and_leaves_the_utterance_as_it_was_spoken() -> None:
    given_clips = clips("neutral", "calm", "sad")
    corpus = assign_labels(given_clips, None, {"calm": "neutral"})
    assert corpus.labels == ("neutral", "sad")
    assert corpus.targets == [0, 0, 1]
    assert corpus.utterances == tuple(given_clips)


def test_null_drops_and_counts() -> None:
    corpus = assign_labels(clips("boredom", "sad", "boredom", "calm"), None, {"boredom": None, "calm": None})
    assert [clip.emotion for clip in corpus.utterances] == ["sad"]
    assert corpus.targets == [0]
    assert corpus.dropped == {"boredom": 2, "calm": 1}


def test_the_map_is_applied_once() -> None:
    corpus = assign_labels(clips("calm", "neutral", "sad"), None, {"calm": "neutral", "neutral": None})
    assert [clip.emotion for clip in corpus.utterances] == ["calm", "sad"]
    swapped = assign_labels(clips("happy", "sad"), None, {"happy": "sad", "sad": "happy"})
    assert [swapped.labels[target] for target in swapped.targets] == ["sad", "happy"]


def test_an_emotion_outside_the_labels_is_an_error_with_count_corpora_and_remedy() -> None:
    mixed = clips("calm", "calm", "sad") + clips("calm", "boredom", corpus="emodb")
    message = complaint(mixed, ("neutral", "sad"), {})
    assert "calm (3 clips of emodb, ravdess); boredom (1 clips of emodb)" in message
    assert (
        "add it to data.labels, or map it: data.label_map.calm=neutral, or drop it: data.label_map.calm=null" in message
    )
    assert "\n" not in message


def test_each_remedy_that_the_error_names_mends_it() -> None:
    mixed = clips("calm", "neutral")
    assert assign_labels(mixed, ("neutral", "calm"), {}).targets == [1, 0]
    assert assign_labels(mixed, ("neutral",), {"calm": "neutral"}).targets == [0, 0]
    assert assign_labels(mixed, ("neutral",), {"calm": None}).dropped == {"calm": 1}


def test_a_rename_to_something_outside_the_labels_is_the_same_error() -> None:
    assert "calm (1 clips of ravdess, mapped to neutral)" in complaint(
        clips("calm", "sad"), ("sad", "happy"), {"calm": "neutral"}
    )


def test_groups_of_ones_own_are_allowed() -> None:
    groups = {"sad": "negative", "angry": "negative", "happy": "positive"}
    corpus = assign_labels(clips("sad", "angry", "happy"), None, groups)
    assert (corpus.labels, corpus.targets) == (("negative", "positive"), [0, 0, 1])
    corpus = assign_labels(clips("sad", "angry", "happy"), ("positive", "negative"), groups)
    assert corpus.targets == [1, 1, 0]


def test_labels_and_map_entries_for_emotions_of_another_corpus_are_allowed_and_told() -> None:
    corpus = assign_labels(clips("neutral", "sad"), ("neutral", "calm", "sad", "joy"), {"boredom": None, "awe": "joy"})
    assert corpus.targets == [0, 2]
    assert corpus.absent == ("calm", "joy")


@pytest.mark.parametrize(
    ("labels", "label_map", "line"),
    [
        (("neutral", "hapy"), {}, "data.labels: no emotion is called 'hapy', did you mean 'happy'?"),
        (("neutral", "Sad"), {}, "data.labels: no emotion is called 'Sad', did you mean 'sad'?"),
        (("neutral", "fear"), {}, "data.labels: no emotion is called 'fear', did you mean 'fearful'?"),
        (None, {"clam": "neutral"}, "data.label_map: no emotion is called 'clam', did you mean 'calm'?"),
        (None, {"calm": "nuetral"}, "data.label_map.calm: no emotion is called 'nuetral', did you mean 'neutral'?"),
        (None, {"anger": None}, "data.label_map: no emotion is called 'anger', did you mean 'angry'?"),
        (("sad", "neutral", "sad"), {}, "data.labels: 'sad' stands there 2 times"),
        ((), {}, "data.labels is empty: name the emotions to tell apart"),
    ],
)
def test_a_slip_is_named_with_its_place_and_the_word_meant(
    labels: Sequence[str] | None, label_map: Mapping[str, str | None], line: str
) -> None:
    assert line in complaint(clips("neutral", "sad"), labels, label_map)


def test_all_slips_are_told_at_once() -> None:
    message = complaint(clips("sad"), ("sad", "hapy"), {"clam": "nuetral"})
    assert len(message.splitlines()) == 3


def test_nothing_left_is_an_error() -> None:
    assert "data.label_map drops all of sad" in complaint(clips("sad"), None, {"sad": None})
    assert "no clip was given" in complaint([], None, {})


@pytest.mark.parametrize(
    ("text", "emotion"),
    [
        (" Anger ", "angry"),
        ("HAPPINESS", "happy"),
        ("Pleasant Surprise", "surprised"),
        ("pleasant-surprise", "surprised"),
        ("ps", "surprised"),
        ("fear", "fearful"),
        ("Mixed  Feelings", "mixed_feelings"),
        ("joy", "joy"),
    ],
)
def test_other_spellings_of_an_emotion_are_read_as_the_canonical_one(text: str, emotion: str) -> None:
    assert normalize_emotion(text) == emotion


def test_synonyms_lead_to_canonical_words_and_replace_none() -> None:
    assert set(SYNONYMS.values()) <= set(EMOTIONS)
    assert not set(SYNONYMS) & set(EMOTIONS)


@given(st.lists(st.sampled_from([*EMOTIONS, "awe", "joy"]), min_size=1), st.randoms())
def test_labels_do_not_depend_on_the_order_of_the_clips(emotions: list[str], random) -> None:
    shuffled = emotions[:]
    random.shuffle(shuffled)
    assert order_labels(emotions) == order_labels(shuffled)
    corpus = assign_labels(clips(*emotions), None, {})
    assert [corpus.labels[target] for target in corpus.targets] == emotions


@given(
    st.lists(st.sampled_from(EMOTIONS), min_size=1),
    st.dictionaries(st.sampled_from(EMOTIONS), st.one_of(st.none(), st.sampled_from(EMOTIONS))),
)
def test_every_clip_is_kept_or_counted_as_dropped(emotions: list[str], label_map: dict[str, str | None]) -> None:
    if all(emotion in label_map and label_map[emotion] is None for emotion in emotions):
        return
    corpus = assign_labels(clips(*emotions), None, label_map)
    assert len(corpus.utterances) == len(corpus.targets) == len(emotions) - sum(corpus.dropped.values())


def test_shared_labels_are_those_of_every_corpus_after_the_map_and_others_are_dropped() -> None:
    joined = [*clips("neutral", "calm", "sad", "happy"), *clips("boredom", "neutral", "joy", "sad", corpus="other")]
    labels, label_map = only_shared(joined, None, {"joy": "happy"})
    assert labels == ("neutral", "happy", "sad")
    corpus = assign_labels(joined, labels, label_map)
    assert corpus.dropped == {"calm": 1, "boredom": 1}
    assert [corpus.labels[target] for target in corpus.targets] == [
        "neutral", "sad", "happy", "neutral", "happy", "sad",
    ]  # fmt: skip


def test_shared_labels_of_one_corpus_are_all_of_it() -> None:
    assert only_shared(clips("sad", "calm"), None, {}) == (("calm", "sad"), {})


def test_the_labels_of_a_checkpoint_stand_whatever_is_shared_now() -> None:
    labels, label_map = only_shared(clips("neutral", "calm", "sad"), ("sad", "happy"), {})
    assert labels == ("sad", "happy")
    assert label_map == {"neutral": None, "calm": None}


def test_corpora_that_share_one_emotion_are_refused_and_told_apart() -> None:
    with pytest.raises(DataError) as caught:
        only_shared([*clips("sad", "calm"), *clips("sad", "joy", corpus="other")], None, {})
    assert "ravdess: calm, sad" in str(caught.value) and "other: sad, joy" in str(caught.value)
