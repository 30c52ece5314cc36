"""Files of predictions that are not such files end in one clear line."""

import pytest

from serx.errors import DataError
from serx.evaluation.csv_files import csv_bytes, read_groups
from serx.evaluation.predictions import from_csv
from serx.evaluation.ratings import ratings_from_csv


def test_rows_come_back_in_the_groups_of_their_first_columns(tmp_path):
    rows = [["seed", "path"], ["1", "a,b.wav"], ["0", 'say "no".wav'], ["1", "c.wav"]]
    (tmp_path / "clips.csv").write_bytes(csv_bytes(rows))
    header, groups = read_groups(tmp_path / "clips.csv", ["seed"])
    assert header == ["path"]
    assert groups == {("1",): [["a,b.wav"], ["c.wav"]], ("0",): [['say "no".wav']]}


@pytest.mark.parametrize("read", [from_csv, ratings_from_csv])
@pytest.mark.parametrize(
    "content",
    [b"", b"path\n", b"a,b,c\n1,2,3\n", b"\xff\xfe", b'"' + b"x" * 200_000 + b'"\n'],
    ids=["empty", "one column", "other columns", "not text", "a cell that is too long"],
)
def test_another_file_is_refused_in_one_line(read, content, tmp_path):
    (tmp_path / "clips.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"clips\.csv: not a .* of this version \(.*\); evaluate again") as caught:
        read(tmp_path / "clips.csv")
    assert "\n" not in str(caught.value)
