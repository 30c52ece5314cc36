"""A failed write says what the system says, how much space is free, and what helps."""

import errno
import os
import re
from pathlib import Path

import pytest

import serx
from serx.errors import DiskError
from serx.evaluation.report import write_files
from serx.files import why_not_written


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EFBIG, "raise the limit on the size of files (ulimit -f)"),
        (errno.EROFS, "make the folder writable"),
        (errno.EACCES, "make the folder writable"),
        (errno.ENOTDIR, "name another file or folder"),
        (errno.ENAMETOOLONG, "name another file or folder"),
        (errno.EMFILE, "raise the limit on open files (ulimit -n)"),
    ],
)
def test_what_helps_depends_on_the_error(number, remedy, tmp_path):
    text = why_not_written(OSError(number, os.strerror(number)), tmp_path)
    assert re.fullmatch(rf"{re.escape(os.strerror(number))} \(\d+\.\d MB free\); {re.escape(remedy)}", text)


def test_a_report_beyond_the_limit_on_files_does_not_ask_for_space(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr("serx.evaluation.report.write_atomically", refuse)
    with pytest.raises(DiskError, match=r"File too large \(.* free\); raise the limit on the size of files"):
        write_files(tmp_path, {"report.txt": b"x"})


def test_every_message_about_a_failed_write_says_what_helps():
    own = Path(serx.__file__).parent
    texts = {path.relative_to(own): path.read_text() for path in own.rglob("*.py") if path.name != "files.py"}
    assert [path for path, text in texts.items() if "strerror} ({free_space" in text] == []
    assert sum("why_not_written(" in text for text in texts.values()) > 10
