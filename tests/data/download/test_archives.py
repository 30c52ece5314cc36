"""Unpacking: sound archives are unpacked completely; hostile ones raise before a byte is written."""

import gzip
import io
import os
import platform
import random
import re
import stat
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from serx.data.download.archives import Limits, unpack
from serx.errors import DataError, DiskError

ROOT = Path(__file__).parents[3]
PLAIN = Limits()
FILES = {"Actor_01/a.wav": b"one" * 1000, "Actor_02/b ü.wav": bytes(5000), "empty.txt": b""}


def make_zip(path: Path, files, compression=zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name), content, compression)
    return path


def make_tar(path: Path, files, mode="w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            if content is not None:
                member.size = len(content)
            archive.addfile(member, io.BytesIO(content or b""))
    return path


def error_message(archive: Path, limits: Limits = PLAIN) -> str:
    """The message of the error that unpacking raises; nothing may be written, neither next to the archive nor above."""
    before = sorted(archive.parent.parent.rglob("*"))
    with pytest.raises(DataError) as caught:
        unpack(archive, archive.parent / "out", limits)
    assert sorted(archive.parent.parent.rglob("*")) == before
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "stored", "tar", "tar.gz", "tar.xz"])
def test_a_sound_archive_is_unpacked_completely(kind, tmp_path):
    path = tmp_path / "named.anything"
    if kind in ("zip", "stored"):
        make_zip(path, FILES.items(), zipfile.ZIP_DEFLATED if kind == "zip" else zipfile.ZIP_STORED)
    else:
        make_tar(path, FILES.items(), {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[kind])
    files = unpack(path, tmp_path / "out")
    assert {str(file.relative_to(tmp_path / "out")): file.read_bytes() for file in files} == FILES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["named.anything", "out"]
    assert not any(file.stat().st_mode & 0o111 for file in files)
    with pytest.raises(DataError, match="already exists"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "a zip of folders", "a tar of folders"])
def test_an_archive_without_a_file_says_so(kind, tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "empty"
    folder = tarfile.TarInfo("folder")
    folder.type = tarfile.DIRTYPE
    if "zip" in kind:
        make_zip(path, [("folder/", b"")] if "folders" in kind else [])
    else:
        make_tar(path, [(folder, None)] if "folders" in kind else [], "w:gz" if kind == "tar.gz" else "w")
    assert error_message(path).endswith("holds no file; nothing was unpacked")


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "nothing in it"])
def test_what_is_no_archive_raises_one_line(kind, tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "x.zip"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "nothing in it":
        path.touch()
    assert re.search("no such file|not a plain file|neither a zip nor a tar", error_message(path))


def test_what_a_killed_process_left_behind_is_removed_and_never_mixed_in(tmp_path):
    path = make_zip(tmp_path / "a.zip", FILES.items())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [tmp_path / f".out.{platform.node()}-{pid}.partial" for pid in (ended.pid, os.getpid(), os.getppid())]
    for folder in left[1:]:
        folder.mkdir()
        (folder / "old.wav").touch()
    left[0].symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    files = unpack(path, tmp_path / "out")
    assert len(files) == len(FILES)
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip", "out", "elsewhere", left[2].name}  # its process runs


def test_a_link_to_nothing_in_place_of_the_folder_raises(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="out already exists"):
        unpack(make_zip(tmp_path / "a.zip", FILES.items()), tmp_path / "out")


def hostile_names() -> list[str]:
    choose = random.Random(0)
    names = [
        "../x", "/x", "a/../../x", "..", "a/..", "//x", "/etc/passwd", "..\\x", "C:\\x", "C:/x", "\\\\host\\x", "a\nb",
        "a\x1b[2Jb", "x" * 300, "/".join("a" * 30), "a//b", "a/./b", "~/../x", "nul\x7f", "a|b", "./..", " /../ ",
    ]  # fmt: skip
    while len(names) < 200:
        parts = [choose.choice(["..", "a", "..", ".", "", "b.wav", "...", "~"]) for _ in range(choose.randint(2, 7))]
        name = choose.choice(["", "/", "./", "../"]) + "/".join(parts)
        if ".." in parts or name.startswith(("/", "../")):
            names.append(name)
    return names


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_hundred_hostile_paths_raise_before_anything_is_written(kind, tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    for name in hostile_names():
        member = zipfile.ZipInfo("x") if kind == "zip" else tarfile.TarInfo("x")
        setattr(member, "filename" if kind == "zip" else "name", name)
        files = [("good.wav", b"good"), (member, b"bad")]
        error_message((make_zip if kind == "zip" else make_tar)(inner / "hostile", files))


def special(name: str, kind: bytes, target: str = "../../etc") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


TARS = {
    "link": [(special("a", tarfile.SYMTYPE), None)],
    "link and a file through it": [(special("a", tarfile.SYMTYPE, "/tmp"), None), ("a/x", b"x")],
    "hard link": [(special("a", tarfile.LNKTYPE, "/etc/passwd"), None)],
    "character device": [(special("a", tarfile.CHRTYPE), None)],
    "block device": [(special("a", tarfile.BLKTYPE), None)],
    "pipe": [(special("a", tarfile.FIFOTYPE), None)],
    "sparse file": [(special("a", tarfile.GNUTYPE_SPARSE), None)],
    "the same name twice": [("a", b"1"), ("a", b"2")],
    "the same name in other letters": [("A", b"1"), ("a", b"2")],
    "a file for a folder": [("a", b"1"), ("a/b", b"2")],
    "a folder for a file": [("a/b", b"1"), ("a", b"2")],
}


@pytest.mark.parametrize("name", TARS)
def test_links_devices_and_duplicates_in_a_tar_raise(name, tmp_path):
    (tmp_path / "in").mkdir()
    message = error_message(make_tar(tmp_path / "in" / "x.tar", [("good", b"g"), *TARS[name]]))
    assert re.search("link|special|twice|damaged|header", message), message


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_raise(mode, tmp_path):
    (tmp_path / "in").mkdir()
    member = zipfile.ZipInfo("a")
    member.external_attr = (mode | 0o777) << 16
    assert "link or a device" in error_message(make_zip(tmp_path / "in" / "x.zip", [("good", b"g"), (member, b"/etc")]))


def test_an_encrypted_zip_raises(tmp_path):
    (tmp_path / "in").mkdir()
    path = make_zip(tmp_path / "in" / "x.zip", [("a", b"secret")])
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    assert "encrypted" in error_message(path)


def test_archives_beyond_the_limits_raise(tmp_path):
    (tmp_path / "in").mkdir()
    many = make_zip(tmp_path / "in" / "many.zip", [(f"{i}", b"") for i in range(30)])
    assert "20" in error_message(many, Limits(members=20))
    large = make_tar(tmp_path / "in" / "large.tar", [("a", bytes(2000)), ("b", bytes(2000))])
    assert "unpacks to 4000 bytes" in error_message(large, Limits(total_bytes=3000))


def _zip_bomb(path: Path) -> Path:
    return make_zip(path, [("bomb", bytes(100 << 20))])


def _tar_bomb(path: Path, kind: bytes = tarfile.REGTYPE) -> Path:
    """600 MB of zeros in 600 kB; a gzip file may have several members."""
    header = tarfile.TarInfo("bomb")
    header.type, header.size = kind, 600 << 20
    path.write_bytes(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT)) + gzip.compress(bytes(1 << 20)) * 600)
    return path


def _pax_bomb(path: Path) -> Path:
    """A header of 600 MB, which tarfile would read into memory."""
    return _tar_bomb(path, tarfile.XHDTYPE)


def _false_size_zip(path: Path) -> Path:
    """Its header says 100 bytes, and it holds 50 MB."""
    make_zip(path, [("bomb", bytes(50 << 20))])
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(mark) + offset
        content[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(content)
    return path


def _many_members(path: Path) -> Path:
    return make_zip(path, [(f"{i:05d}", b"") for i in range(40_000)], zipfile.ZIP_STORED)


MEASURE = """
import re, sys
from pathlib import Path
from serx.data.download.archives import unpack
from serx.errors import DataError
def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) >> 10
after_imports = peak_mb()
try:
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
    print("unpacked")
except DataError as error:
    print("raised")
print(peak_mb() - after_imports)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads its memory from /proc")
@pytest.mark.parametrize("bomb", [_zip_bomb, _tar_bomb, _pax_bomb, _false_size_zip, _many_members])
def test_decompression_bombs_raise_within_400_mb(bomb, tmp_path):
    path = bomb(tmp_path / "bomb")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path), str(tmp_path / "out")], capture_output=True,
                          text=True, cwd=ROOT)  # fmt: skip
    result, peak = done.stdout.split()
    assert result == "raised"
    assert int(peak) < 400
    assert [p.name for p in tmp_path.iterdir()] == ["bomb"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_damaged_archive_is_unpacked_or_raises_with_its_name(kind, tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "x"
    files = [(f"{i}.wav", bytes([i]) * 500) for i in range(5)]
    make_zip(path, files) if kind == "zip" else make_tar(path, files, "w:gz")
    content, choose = path.read_bytes(), random.Random(0)
    raised = 0
    tracemalloc.start()
    for i in range(150):
        broken = bytearray(content)
        if i % 3:
            broken[choose.randrange(len(broken))] ^= 1 << choose.randrange(8)
        else:
            del broken[choose.randrange(len(broken)) :]
        path.write_bytes(broken)
        try:
            unpack(path, tmp_path / "out" / str(i))
        except DataError as error:
            raised += str(path) in str(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert raised > 75
    assert peak < 50 << 20


def test_too_little_free_space_raises_before_anything_is_written(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "x.zip", FILES.items())
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr("serx.data.download.archives.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskError, match="MB free"):
        unpack(path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]
