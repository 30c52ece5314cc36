"""Emotion words become class numbers: labels, renames, drops, registered words, and errors for typos."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serx.config import load_config
from serx.data import labels as labels_module
from serx.data.dataset import DataConfig, load_dataset, split_dataset
from serx.data.labels import (
    EMOTIONS,
    SYNONYMS,
    assign_labels,
    normalize_emotion,
    only_shared,
    order_labels,
    register_emotion,
)
from serx.data.utterance import Utterance
from serx.errors import ConfigError, DataError


def clips(*emotions: str, corpus: str = "ravdess") -> list[Utterance]:
    return [Utterance(Path(f"/{corpus}/{n}.wav"), corpus, "01", emotion) for n, emotion in enumerate(emotions)]


def error_message(
    utterances: Sequence[Utterance], labels: Sequence[str] | None, label_map: Mapping[str, str | None]
) -> str:
    with pytest.raises(DataError) as caught:
        assign_labels(utterances, labels, label_map)
    return str(caught.value)


def test_default_labels_are_the_emotions_present_canonical_ones_first() -> None:
    corpus = assign_labels(clips("joy", "sad", "awe", "neutral", "sad"), None, {})
    assert corpus.labels == ("neutral", "sad", "awe", "joy")
    assert corpus.targets == [3, 1, 2, 0, 1]
    assert corpus.dropped == {}
    assert corpus.absent == ()


def test_explicit_labels_keep_their_order() -> None:
    corpus = assign_labels(clips("sad", "happy"), ("happy", "sad"), {})
    assert (corpus.labels, corpus.targets) == (("happy", "sad"), [1, 0])


def test_a_rename_changes_the_target_and_not_the_utterance() -> None:
    given_clips = clips("neutral", "calm", "sad")
    corpus = assign_labels(given_clips, None, {"calm": "neutral"})
    assert corpus.labels == ("neutral", "sad")
    assert corpus.targets == [0, 0, 1]
    assert corpus.utterances == tuple(given_clips)


def test_null_drops_clips_and_counts_them() -> None:
    corpus = assign_labels(clips("boredom", "sad", "boredom", "calm"), None, {"boredom": None, "calm": None})
    assert [clip.emotion for clip in corpus.utterances] == ["sad"]
    assert corpus.targets == [0]
    assert corpus.dropped == {"boredom": 2, "calm": 1}


def test_the_map_is_applied_once() -> None:
    corpus = assign_labels(clips("calm", "neutral", "sad"), None, {"calm": "neutral", "neutral": None})
    assert [clip.emotion for clip in corpus.utterances] == ["calm", "sad"]
    swapped = assign_labels(clips("happy", "sad"), None, {"happy": "sad", "sad": "happy"})
    assert [swapped.labels[target] for target in swapped.targets] == ["sad", "happy"]


def test_an_emotion_outside_the_labels_raises_with_count_corpora_and_fix() -> None:
    mixed = clips("calm", "calm", "sad") + clips("calm", "boredom", corpus="emodb")
    message = error_message(mixed, ("neutral", "sad"), {})
    assert message.startswith("/ravdess/0.wav: emotions that are missing in data.labels")
    assert "calm (3 clips of emodb, ravdess: /ravdess/0.wav, /ravdess/1.wav, /emodb/0.wav); boredom (1 clips" in message
    assert (
        "add it to data.labels, or map it: data.label_map.calm=neutral, or drop it: data.label_map.calm=null" in message
    )
    assert "\n" not in message


def test_each_fix_that_the_error_suggests_works() -> None:
    mixed = clips("calm", "neutral")
    assert assign_labels(mixed, ("neutral", "calm"), {}).targets == [1, 0]
    assert assign_labels(mixed, ("neutral",), {"calm": "neutral"}).targets == [0, 0]
    assert assign_labels(mixed, ("neutral",), {"calm": None}).dropped == {"calm": 1}


def test_a_rename_to_a_word_outside_the_labels_raises_the_same_error() -> None:
    assert "calm (1 clips of ravdess, mapped to neutral: /ravdess/0.wav)" in error_message(
        clips("calm", "sad"), ("sad", "happy"), {"calm": "neutral"}
    )


def test_emotions_can_be_grouped_under_new_words() -> None:
    groups = {"sad": "negative", "angry": "negative", "happy": "positive"}
    corpus = assign_labels(clips("sad", "angry", "happy"), None, groups)
    assert (corpus.labels, corpus.targets) == (("negative", "positive"), [0, 0, 1])
    corpus = assign_labels(clips("sad", "angry", "happy"), ("positive", "negative"), groups)
    assert corpus.targets == [1, 1, 0]


def test_labels_without_clips_are_allowed_and_listed_as_absent() -> None:
    corpus = assign_labels(clips("neutral", "sad"), ("neutral", "calm", "sad", "joy"), {"boredom": None, "awe": "joy"})
    assert corpus.targets == [0, 2]
    assert corpus.absent == ("calm", "joy")


@pytest.mark.parametrize(
    ("labels", "label_map", "line"),
    [
        (("neutral", "hapy"), {}, "data.labels.1: no emotion is called 'hapy', did you mean 'happy'?"),
        (("neutral", "Sad"), {}, "data.labels.1: no emotion is called 'Sad', did you mean 'sad'?"),
        (("neutral", "fear"), {}, "data.labels.1: no emotion is called 'fear', did you mean 'fearful'?"),
        (None, {"clam": "neutral"}, "data.label_map.clam: no emotion is called 'clam', did you mean 'calm'?"),
        (None, {"calm": "nuetral"}, "data.label_map.calm: no emotion is called 'nuetral', did you mean 'neutral'?"),
        (None, {"anger": None}, "data.label_map.anger: no emotion is called 'anger', did you mean 'angry'?"),
        (("sad", "neutral", "sad"), {}, "data.labels: 'sad' is listed 2 times; keep one"),
        ((), {}, "data.labels is empty: list the classes, or leave data.labels out to use all emotions present"),
    ],
)
def test_a_typo_raises_with_its_key_and_a_suggestion(
    labels: Sequence[str] | None, label_map: Mapping[str, str | None], line: str
) -> None:
    assert line in error_message(clips("neutral", "sad"), labels, label_map)


def test_all_typos_are_reported_at_once() -> None:
    message = error_message(clips("sad"), ("sad", "hapy"), {"clam": "nuetral"})
    assert len(message.splitlines()) == 3


def test_no_clip_left_raises() -> None:
    assert "data.label_map drops all of sad" in error_message(clips("sad"), None, {"sad": None})
    assert "there are no clips" in error_message([], None, {})


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
def test_other_spellings_of_an_emotion_become_the_canonical_word(text: str, emotion: str) -> None:
    assert normalize_emotion(text) == emotion


def test_synonyms_map_to_canonical_words_and_are_not_canonical_themselves() -> None:
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


def test_shared_labels_are_those_of_every_corpus_after_the_map() -> None:
    joined = [*clips("neutral", "calm", "sad", "happy"), *clips("boredom", "neutral", "joy", "sad", corpus="other")]
    labels, label_map = only_shared(joined, None, {"joy": "happy"})
    assert labels == ("neutral", "happy", "sad")
    corpus = assign_labels(joined, labels, label_map)
    assert corpus.dropped == {"calm": 1, "boredom": 1}
    assert [corpus.labels[target] for target in corpus.targets] == [
        "neutral", "sad", "happy", "neutral", "happy", "sad",
    ]  # fmt: skip


def test_shared_labels_of_one_corpus_are_all_its_emotions() -> None:
    assert only_shared(clips("sad", "calm"), None, {}) == (("calm", "sad"), {})


def test_labels_of_a_checkpoint_override_shared_labels() -> None:
    labels, label_map = only_shared(clips("neutral", "calm", "sad"), ("sad", "happy"), {})
    assert labels == ("sad", "happy")
    assert label_map == {"neutral": None, "calm": None}


def test_corpora_that_share_one_emotion_raise_with_the_emotions_of_each() -> None:
    with pytest.raises(DataError) as caught:
        only_shared([*clips("sad", "calm"), *clips("sad", "joy", corpus="other")], None, {})
    assert "ravdess: calm, sad" in str(caught.value) and "other: sad, joy" in str(caught.value)


def test_dropped_emotions_are_in_the_same_order_in_every_process() -> None:
    joined = [*clips("sad", "happy", "calm", "awe", "boredom", "joy"), *clips("sad", "happy", corpus="other")]
    _, label_map = only_shared(joined, None, {})
    assert list(label_map) == ["calm", "boredom", "awe", "joy"]


def test_leaving_data_labels_out_uses_all_emotions_present_as_the_error_for_an_empty_list_says() -> None:
    config = DataConfig(root="x")
    assert assign_labels(clips("sad", "happy"), config.labels, {}).labels == ("happy", "sad")
    with pytest.raises(ValidationError):
        DataConfig(root="x", labels="auto")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's registrations end with it."""
    monkeypatch.setattr(labels_module, "EMOTIONS", EMOTIONS[:9])
    monkeypatch.setattr(labels_module, "SYNONYMS", dict(SYNONYMS))


def test_a_registered_emotion_comes_after_the_canonical_ones_and_has_spellings(registry: None) -> None:
    register_emotion("Contempt", spellings=["con", "Contemptuous"])
    register_emotion("contempt", spellings=["scorn"])
    register_emotion("happy", spellings=["joy"])
    assert [normalize_emotion(word) for word in ("CON", "contemptuous", "scorn", "joy")] == [*["contempt"] * 3, "happy"]
    assert order_labels(["awe", "contempt", "boredom", "happy"]) == ("happy", "boredom", "contempt", "awe")
    assert "did you mean 'contempt'?" in error_message(clips("sad"), ("sad", "contemt"), {})


@pytest.mark.parametrize(
    ("word", "spellings", "message"),
    [
        ("contempt", ["fear"], "'fear' already means fearful"),
        ("contempt", ["sad"], "'sad' already means sad"),
        ("anger", [], "'anger' already means angry"),
        ("7", [], "'7' is not a word"),
    ],
)
def test_a_spelling_with_another_meaning_raises(word: str, spellings: list[str], message: str, registry: None) -> None:
    with pytest.raises(ConfigError, match=message):
        register_emotion(word, spellings)
    assert normalize_emotion("fear") == "fearful"


def rows(*emotions: str) -> list[Utterance]:
    """A row of own.csv for each emotion."""
    return [
        Utterance(Path(f"/{n}.wav"), "own", "ann", normalize_emotion(word), source=f"own.csv:{n}")
        for n, word in enumerate(emotions, 2)
    ]


def test_an_emotion_of_a_table_that_is_not_mapped_is_named_with_its_lines() -> None:
    message = error_message(rows("sad", "joy", "sad", "awe", *["joy"] * 4), ("sad",), {})
    assert message.startswith("own.csv:5: emotions that are missing") or message.startswith("own.csv:3: emotions")
    assert "joy (5 clips of own: own.csv:3, own.csv:6, own.csv:7 and 2 more)" in message
    assert "awe (1 clips of own: own.csv:5)" in message


@pytest.mark.parametrize("word", ["unsure", "Unsure", " UNSURE ", "un\u200bsure", "\uff55nsure"])
def test_no_class_may_be_called_as_an_abstention(word: str) -> None:
    assert error_message(rows("sad", word), None, {}).startswith("own.csv:3: 'unsure' is what serx calls a prediction")
    assert "data.label_map.joy: 'unsure'" in error_message(rows("sad", "joy"), None, {"joy": word})
    assert "data.labels.1: 'unsure'" in error_message(rows("sad"), ("sad", word), {})
    with pytest.raises(ConfigError, match="'unsure' is what serx calls"):
        register_emotion(word)


def test_clips_that_nobody_was_sure_about_may_be_renamed_or_dropped_as_the_error_suggests() -> None:
    message = error_message(rows("sad", "unsure"), None, {})
    assert "data.label_map.unsure=uncertain" in message and "data.label_map.unsure=null" in message
    assert assign_labels(rows("sad", "unsure"), None, {"unsure": "uncertain"}).labels == ("sad", "uncertain")
    assert assign_labels(rows("sad", "unsure"), None, {"unsure": None}).dropped == {"unsure": 1}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("labels:\n    - neutral\n    - hapy", "7: data.labels.1: no emotion is called 'hapy'"),
        ("labels: [neutral, unsure]", "5: data.labels.1: 'unsure' is what serx calls"),
        ("label_map:\n    calm: neutral\n    clam: sad", "7: data.label_map.clam: no emotion is called 'clam'"),
        ("label_map:\n    happy: joy\n    angry: unsure", "7: data.label_map.angry: 'unsure' is what serx calls"),
        ("folds: 99", "5: data.folds is 99, but there are 6 speakers"),
        ("protocol: speakers\n  test_speakers: [5, 17]", "6: data.test_speakers.1: no speaker '17' in the data"),
        ("protocol: cross_corpus\n  test_corpora: [tes]", "6: data.test_corpora: no corpus 'tes' in the data"),
    ],
)
def test_an_error_about_a_setting_and_the_data_names_file_and_line(
    tmp_path: Path, tiny_root: Path, text: str, line: str
) -> None:
    recipe = tmp_path / "mine.yaml"
    protocol = "" if "protocol" in text else "\n  protocol: kfold"
    recipe.write_text(f"base: mlp\ndata:\n  root: {tiny_root}\n  cache: {tmp_path}\n  {text}{protocol}\n")
    config = load_config(recipe).data
    with pytest.raises((DataError, ConfigError)) as caught:
        split_dataset(load_dataset(config, progress=False), config, progress=False)
    assert str(caught.value).startswith(f"{recipe}:{line}")
    assert "\n" not in str(caught.value)


def test_an_error_about_an_override_names_it(tmp_path: Path, tiny_root: Path) -> None:
    config = load_config("mlp", f"data.root={tiny_root}", "data.labels=[hapy]").data
    with pytest.raises(DataError, match=r"^command line: data.labels=\[hapy\]: data.labels.0: no emotion is called"):
        load_dataset(config, progress=False)


def test_where_a_key_was_written_is_no_part_of_the_setting(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: mlp\ndata:\n  root: x\n")
    (tmp_path / "b.yaml").write_text("base: mlp\n\n\ndata: {root: x}\n")
    first, second = (load_config(tmp_path / name) for name in ("a.yaml", "b.yaml"))
    assert first == second and first.data.place_of("data.root") != second.data.place_of("data.root")
    assert first.model_dump() == second.model_dump()
    assert first.data.model_copy(update={"fold": 1}).place_of("data.root") == f"{tmp_path / 'a.yaml'}:3"
