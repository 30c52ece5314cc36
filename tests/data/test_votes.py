"""Votes of several raters become shares of classes: renamed, added up, dropped; and every loss is noted."""

from pathlib import Path

import numpy as np
import pytest

from serx.data.dataset import DataConfig, load_dataset
from serx.data.labels import assign_labels, only_shared
from serx.data.utterance import Utterance
from serx.errors import DataError


def clip(votes: dict[str, float], emotion: str = "neutral", name: str = "a", corpus: str = "own") -> Utterance:
    source = f"{name}.csv:2"
    return Utterance(Path(f"/{name}.wav"), corpus, "1", emotion, votes=tuple(votes.items()), source=source)


def labeled(*clips: Utterance, labels=None, **label_map):
    return assign_labels(clips, labels, label_map, "votes")


def test_votes_are_counts_of_the_classes_in_their_order():
    corpus = labeled(clip({"sad": 3, "happy": 1}), clip({"happy": 2, "sad": 0}))
    assert corpus.labels == ("happy", "sad") and corpus.targets == [1, 0]
    assert corpus.votes.tolist() == [[1, 3], [2, 0]]


def test_votes_of_words_of_one_class_add_up():
    corpus = labeled(clip({"joy": 2, "amused": 2, "sad": 3}), joy="happy", amused="happy")
    assert corpus.labels == ("happy", "sad") and corpus.votes.tolist() == [[4, 3]] and corpus.targets == [0]


def test_votes_for_dropped_words_are_left_out_and_a_clip_without_any_left_is_dropped_and_counted():
    clips = clip({"other": 4, "sad": 1, "happy": 0}), clip({"other": 2, "unclear": 1}), clip({"happy": 1})
    corpus = labeled(*clips, other=None, unclear=None)
    assert corpus.utterances == (clips[0], clips[2]) and corpus.votes.tolist() == [[0, 1], [1, 0]]
    assert corpus.without_vote == 1 and corpus.dropped_votes == {"other": 6, "unclear": 1} and not corpus.dropped


def test_a_clip_without_votes_has_one_for_its_emotion():
    corpus = labeled(clip({"sad": 2, "happy": 1}), clip({}, "happy"), clip({}, "boredom"), boredom=None)
    assert corpus.votes.tolist() == [[1, 2], [1, 0]] and corpus.dropped == {"boredom": 1}


def test_the_emotion_of_a_clip_with_votes_is_not_read():
    assert labeled(clip({"sad": 2}, emotion="no_agreement"), clip({"happy": 1})).labels == ("happy", "sad")


def test_without_labels_from_votes_they_change_nothing():
    corpus = assign_labels([clip({"sad": 2}, "happy"), clip({"happy": 1}, "angry")], None, {})
    assert corpus.votes is None and corpus.labels == ("happy", "angry") and corpus.targets == [0, 1]


@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_votes_that_are_no_number_of_raters_are_an_error_that_names_the_row(number):
    with pytest.raises(DataError, match=r"^b\.csv:2: .* votes for sad; give a number of raters or a share"):
        labeled(clip({"happy": 2}), clip({"sad": number, "happy": 1}, name="b"))


def test_a_clip_with_zeros_alone_is_an_error():
    with pytest.raises(DataError, match=r"b\.csv:2: 0 votes for each of sad, happy"):
        labeled(clip({"happy": 2}), clip({"sad": 0, "happy": 0}, name="b"))


def test_a_word_of_the_votes_that_is_no_label_is_an_error_that_names_the_clips():
    with pytest.raises(DataError, match=r"b\.csv:2: .*awe \(1 clips of own: b\.csv:2\).*label_map\.awe=null"):
        labeled(clip({"happy": 2, "sad": 1}), clip({"awe": 1, "happy": 2}, name="b"), labels=("happy", "sad"))


def test_all_votes_dropped_is_an_error():
    with pytest.raises(DataError, match=r"data\.label_map drops all of sad"):
        labeled(clip({"sad": 2}), sad=None)


def test_shared_labels_are_those_that_raters_of_every_corpus_chose():
    clips = [clip({"sad": 2, "joy": 1, "happy": 1}), clip({"happy": 1, "sad": 1, "awe": 3}, corpus="two")]
    labels, label_map = only_shared(clips, None, {}, "votes")
    assert labels == ("happy", "sad")
    assert assign_labels(clips, labels, label_map, "votes").votes.tolist() == [[1, 2], [1, 1]]


def test_a_dataset_notes_ties_dropped_votes_and_clips_without_votes(tiny_root, alter_clips):
    votes = {0: {"happy": 1.0, "sad": 1.0}, 1: {"other": 3.0}, 2: {"sad": 2.0, "other": 1.0}}
    alter_clips(lambda n, u: {"votes": tuple(votes.get(n, {}).items())})
    config = DataConfig(root=str(tiny_root), labels_from="votes", label_map={"other": None})
    dataset = load_dataset(config, progress=False)
    assert len(dataset.targets) == 71 and (~dataset.has_class).sum() == 1 and dataset.votes.shape == (71, 4)
    np.testing.assert_allclose(dataset.shares.sum(1), 1)
    assert "left out by the label map: 4 votes for other" in dataset.notes
    assert "dropped: 1 clips without a vote for any of neutral, happy, sad, angry" in dataset.notes
    assert "69 of 71 clips have no votes: their emotion is their label" in dataset.notes
    assert any(note.startswith("the votes of 1 of 71 clips tie") for note in dataset.notes)


def test_labels_from_votes_without_any_vote_are_an_error_but_a_checkpoint_reads_the_labels(tiny_root):
    config = DataConfig(root=str(tiny_root), labels_from="votes")
    with pytest.raises(DataError, match="labels_from is votes, but no clip has votes"):
        load_dataset(config, progress=False)
    dataset = load_dataset(config, ("neutral", "happy", "angry"), progress=False)
    assert dataset.has_class.all() and "72 of 72 clips have no votes: their emotion is their label" in dataset.notes


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_positive_and_finite_is_an_error_that_names_the_clip(weight, tiny_root, alter_clips):
    alter_clips(lambda n, u: {"weight": weight if n == 3 else 1.0})
    with pytest.raises(DataError, match=r"03-01-.*\.wav: weight .* is not"):
        load_dataset(DataConfig(root=str(tiny_root)), progress=False)


def test_weights_are_noted_unless_all_are_equal(tiny_root, alter_clips):
    assert not [n for n in load_dataset(DataConfig(root=str(tiny_root)), progress=False).notes if "weight" in n]
    alter_clips(lambda n, u: {"weight": 0.5 + n / 10})
    dataset = load_dataset(DataConfig(root=str(tiny_root)), progress=False)
    note = "clips have weights from 0.5 to 7.6: the loss of a clip is multiplied with its weight"
    assert note in dataset.notes and dataset.weights[2] == 0.7


def written(tmp_path: Path, tiny_root: Path, header: str, *rows: str) -> Path:
    """A table of clips of the tiny corpus; `{n}` in a row is the path of the n-th."""
    paths = sorted(tiny_root.rglob("*.wav"))
    table = tmp_path / "own.csv"
    table.write_text("\n".join([header, *(row.format(*paths) for row in rows)]))
    return table


def test_votes_weights_and_ties_of_a_table_become_targets(tmp_path, tiny_root):
    header = "path,speaker,weight,emotion.happy,emotion.sad,emotion.other"
    table = written(tmp_path, tiny_root, header, "{0},ann,2,3,1,0", "{1},ben,1,2,2,1", "{2},ben,1,0,0,3")
    config = DataConfig(root=str(table), labels_from="votes", label_map={"other": None})
    dataset = load_dataset(config, progress=False)
    assert dataset.votes.tolist() == [[3, 1], [2, 2]] and dataset.has_class.tolist() == [True, False]
    assert dataset.weights.tolist() == [2, 1] and dataset.labels == ("happy", "sad")
    assert any(note.startswith("dropped: 1 clips without a vote") for note in dataset.notes)


def test_a_table_of_ratings_needs_no_emotion(tmp_path, tiny_root):
    rows = "{0},ann,2.5,4", "{1},ben,,3", "{2},ben,7,"
    table = written(tmp_path, tiny_root, "path,speaker,arousal,valence", *rows)
    both = {"tasks": ("dimensions",), "dimensions": ("arousal", "valence")}
    dataset = load_dataset(DataConfig(root=str(table), **both), progress=False)
    np.testing.assert_array_equal(dataset.ratings, [[2.5, 4], [np.nan, 3], [7, np.nan]])
    assert dataset.labels == () and not dataset.has_class.any()
    with pytest.raises(DataError, match=r"own\.csv:2: no emotion, and 3 clips have none; .*data\.tasks=\[dimensions\]"):
        load_dataset(DataConfig(root=str(table)), progress=False)


def test_rows_with_an_emotion_and_rows_with_ratings_are_learned_together(tmp_path, tiny_root):
    rows = "{0},ann,sad,", "{1},ben,,3", "{2},ben,happy,5"
    table = written(tmp_path, tiny_root, "path,speaker,emotion,arousal", *rows)
    config = DataConfig(root=str(table), tasks=("emotions", "dimensions"), dimensions=("arousal",))
    dataset = load_dataset(config, progress=False)
    assert dataset.has_class.tolist() == [True, False, True] and dataset.labels == ("happy", "sad")
    np.testing.assert_array_equal(dataset.ratings[:, 0], [np.nan, 3, 5])
    assert "1 of 3 clips have ratings and no class" in dataset.notes


def test_a_row_without_emotion_votes_and_ratings_is_still_an_error(tmp_path, tiny_root):
    table = written(tmp_path, tiny_root, "path,speaker,emotion,arousal", "{0},ann,sad,", "{1},ben,,")
    with pytest.raises(DataError, match=r"own\.csv:3: no emotion; fill the cell or delete the row"):
        load_dataset(DataConfig(root=str(table)), progress=False)
