"""Downloads from a local server with faults: resumed, verified, and at the end complete or absent."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serx.data.download import fetch as fetch_module
from serx.data.download import sources
from serx.data.download.fetch import fetch, get
from serx.data.download.sources import SOURCES, Archive, Source, download
from serx.errors import ConfigError, DataError, DiskError

ROOT = Path(__file__).parents[3]
CONTENT = bytes(range(256)) * 2000
SIZE = len(CONTENT)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; each request uses up one of `server.faults`."""

    def do_GET(self):
        server, path = self.server, self.path.split("?")[0]
        requested = self.headers.get("Range")
        server.requests.append((path, requested))
        fault = server.faults.pop(0) if server.faults else ""
        content = server.files.get(path)
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault[3:])
            self.end_headers()
            return
        if content is None:
            self.send_error(404)
            return
        start = int(requested[6:-1]) if requested and fault != "no ranges" else 0
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if requested and fault != "no ranges" else 200)
        if requested and fault != "no ranges":
            first = 0 if fault == "another range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: len(rest) // 2] if fault == "cut" else rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetch_module, "FIRST_WAIT_SECONDS", 0.001)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.faults, server.requests = {"/a.zip": CONTENT}, [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetch_file(server, path: Path, size=SIZE, digest=MD5) -> Path:
    return fetch(f"{server.url}/a.zip", path, size, digest, progress=False)


def test_a_file_is_downloaded_once(server, tmp_path):
    path = fetch_file(server, tmp_path / "deep" / "a.zip")
    assert path.read_bytes() == CONTENT
    fetch_file(server, path)
    assert len(server.requests) == 1
    assert [p.name for p in path.parent.iterdir()] == ["a.zip"]


def test_a_cut_connection_resumes_where_it_was_cut(server, tmp_path):
    server.faults = ["cut", "cut", "500", "cut"]
    assert fetch_file(server, tmp_path / "a.zip").read_bytes() == CONTENT
    starts = [int(requested[6:-1]) for _, requested in server.requests if requested]
    assert starts == sorted(starts) and starts[0] == len(CONTENT) // 2


def test_a_partial_file_of_an_earlier_process_is_resumed(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    assert fetch_file(server, tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.requests == [("/a.zip", "bytes=1000-")]


@pytest.mark.parametrize("fault", ["no ranges", "another range"])
def test_a_server_that_sends_another_range_never_gives_a_mixed_file(fault, server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"?" * 1000)
    server.faults = [fault] * 2
    if fault == "no ranges":
        assert fetch_file(server, tmp_path / "a.zip").read_bytes() == CONTENT
    else:
        with pytest.raises(DataError, match="md5"):
            fetch_file(server, tmp_path / "a.zip")
        assert fetch_file(server, tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_partial_file_that_the_server_rejects_is_deleted(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    server.faults = ["416"]
    assert fetch_file(server, tmp_path / "a.zip").read_bytes() == CONTENT


def test_another_content_raises_by_its_digest_and_is_deleted(server, tmp_path):
    server.files["/a.zip"] = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match=MD5):
        fetch_file(server, tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())


def test_a_longer_answer_is_cut_off_and_raises(server, tmp_path):
    server.files["/a.zip"] = CONTENT * 20
    with pytest.raises(DataError, match="longer"):
        fetch_file(server, tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())


def test_a_server_that_stays_broken_raises_and_the_partial_file_is_kept(server, tmp_path):
    server.faults = ["cut"] + ["503"] * 50
    with pytest.raises(DataError, match=r"503.*are kept, run the command again"):
        fetch_file(server, tmp_path / "a.zip")
    assert (tmp_path / "a.zip.part").stat().st_size == len(CONTENT) // 2
    server.faults = []
    assert fetch_file(server, tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_missing_file_raises_without_a_retry(server, tmp_path):
    server.files.clear()
    with pytest.raises(DataError, match="404"):
        fetch_file(server, tmp_path / "a.zip")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url", ["http://example.org/a", "ftp://127.0.0.1/a", "file:///etc/passwd", "http://localhost.x/a"]
)
def test_only_https_is_allowed_also_in_redirects(url, server, tmp_path):
    with pytest.raises(ConfigError, match="https"):
        fetch(url, tmp_path / "a", 1, MD5)
    server.faults = [f"to {url}"]
    with pytest.raises((ConfigError, DataError), match="https|not allowed"):
        fetch_file(server, tmp_path / "a.zip")


def test_too_little_free_space_raises_before_any_request(server, tmp_path):
    with pytest.raises(DiskError, match="MB free"):
        fetch_file(server, tmp_path / "a.zip", size=1 << 60)
    assert not server.requests


def corpus_zip(names) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"audio")
    return buffer.getvalue()


def offer(server, monkeypatch, content: bytes, clips: int) -> None:
    server.files["/a.zip"] = content
    archive = Archive(
        f"{server.url}/a.zip", len(content), f"md5:{hashlib.md5(content).hexdigest()}", "ravdess/speech", clips
    )
    monkeypatch.setitem(SOURCES, "ravdess", Source("a license", (archive,)))


def test_a_corpus_is_downloaded_unpacked_and_counted_once(server, tmp_path, monkeypatch):
    offer(server, monkeypatch, corpus_zip(["Actor_01/a.wav", "Actor_01/b.wav", "Actor_01/._a.wav"]), 2)
    folder = download("ravdess", tmp_path, progress=False)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in folder.rglob("*.wav"))[1:] == [
        "ravdess/speech/Actor_01/a.wav", "ravdess/speech/Actor_01/b.wav",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["ravdess"]
    download("ravdess", tmp_path, progress=False)
    assert len(server.requests) == 1


def test_a_hostile_archive_with_the_right_digest_raises_and_writes_nothing(server, tmp_path, monkeypatch):
    offer(server, monkeypatch, corpus_zip(["a.wav", "../../evil.wav"]), 1)
    with pytest.raises(DataError, match=r"evil\.wav.*nothing was unpacked"):
        download("ravdess", tmp_path / "in" / "root", progress=False)
    assert not list(tmp_path.rglob("*.wav"))


def test_an_archive_with_another_number_of_clips_raises_each_time_and_leaves_no_folder(server, tmp_path, monkeypatch):
    offer(server, monkeypatch, corpus_zip(["a.wav"]), 2)
    messages = set()
    for _ in range(3):
        with pytest.raises(DataError, match=r"a\.zip: has 1 clips instead of 2") as caught:
            download("ravdess", tmp_path, progress=False)
        messages.add(str(caught.value))
        assert not (tmp_path / "ravdess" / "speech").exists()
    assert len(messages) == 1 and "\n" not in messages.pop()


def test_a_folder_with_another_number_of_clips_raises_each_time(server, tmp_path, monkeypatch):
    offer(server, monkeypatch, corpus_zip(["a.wav", "b.wav"]), 2)
    folder = download("ravdess", tmp_path, progress=False) / "speech"
    (folder / "a.wav").unlink()
    for _ in range(2):
        with pytest.raises(DataError, match="speech: has 1 clips instead of 2; move the folder away"):
            download("ravdess", tmp_path, progress=False)
    (folder / "a.wav").mkdir()  # a folder of the right name is no clip
    with pytest.raises(DataError, match="has 1 clips instead of 2"):
        download("ravdess", tmp_path, progress=False)


def test_the_folder_of_a_corpus_may_be_a_link_but_not_a_file_or_a_link_to_nothing(server, tmp_path, monkeypatch):
    offer(server, monkeypatch, corpus_zip(["a.wav"]), 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.wav").write_bytes(b"audio")
    folder = tmp_path / "ravdess" / "speech"
    folder.parent.mkdir()
    folder.symlink_to(elsewhere)
    assert download("ravdess", tmp_path, progress=False) == folder.parent
    shutil.rmtree(elsewhere)
    with pytest.raises(DataError, match="speech: a link to a missing folder"):
        download("ravdess", tmp_path, progress=False)
    folder.unlink()
    folder.write_text("a file")
    with pytest.raises(DataError, match="speech: not a folder"):
        download("ravdess", tmp_path, progress=False)
    assert not server.requests


@pytest.mark.parametrize("kind", ["a symbolic link", "a symbolic link to nothing", "hard link", "a folder", "a pipe"])
def test_a_partial_file_that_is_a_link_or_no_file_raises_and_nothing_is_written_through_it(kind, server, tmp_path):
    part, precious = tmp_path / "root" / "a.zip.part", tmp_path / "precious"
    part.parent.mkdir()
    precious.write_bytes(b"precious")
    if kind == "hard link":
        os.link(precious, part)
    elif kind == "a folder":
        part.mkdir()
    elif kind == "a pipe":
        os.mkfifo(part)
    else:
        part.symlink_to(tmp_path / "absent" if "nothing" in kind else precious)
    for _ in range(2):
        with pytest.raises(
            DataError, match=rf"a\.zip\.part: .*{kind.removesuffix(' to nothing')}.*move it away"
        ) as caught:
            fetch_file(server, part.with_suffix(""))
        assert "\n" not in str(caught.value)
    assert precious.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["precious", "root"]
    assert not server.requests


def test_a_link_that_appears_during_a_download_is_not_followed(server, tmp_path, monkeypatch):
    precious, part = tmp_path / "precious", tmp_path / "a.zip.part"
    precious.write_bytes(b"precious")
    monkeypatch.setattr(fetch_module, "_partial_size", lambda part: part.symlink_to(precious) or 0)
    with pytest.raises(DiskError):
        fetch_file(server, tmp_path / "a.zip")
    assert part.is_symlink() and precious.read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["a folder", "a pipe"])
def test_what_is_no_file_in_place_of_a_download_raises_one_line(kind, server, tmp_path):
    path = tmp_path / "a.zip"
    path.mkdir() if kind == "a folder" else os.mkfifo(path)
    with pytest.raises(DataError, match=rf"a\.zip: {kind} is in the way"):
        fetch_file(server, path)


def test_a_link_in_place_of_a_download_is_replaced_and_its_target_stays(server, tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "a.zip").symlink_to(precious)
    assert fetch_file(server, tmp_path / "a.zip").read_bytes() == CONTENT
    assert precious.read_bytes() == b"precious"


def test_another_content_raises_each_time(server, tmp_path):
    server.files["/a.zip"] = CONTENT[:-1] + b"x"
    for _ in range(2):
        with pytest.raises(DataError, match=MD5):
            fetch_file(server, tmp_path / "a.zip")


def pointer_hash(content: bytes) -> str:
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    return hashlib.sha1(f"blob {len(pointer)}\0{pointer}".encode()).hexdigest()


def test_crema_d_is_downloaded_clip_by_clip_each_verified_and_resumes(server, tmp_path, monkeypatch):
    clips = {f"10{i:02d}_DFA_ANG_XX.wav": bytes([i]) * 100 for i in range(1, 13)}
    tree = [{"path": name, "sha": pointer_hash(content)} for name, content in clips.items()]
    server.files |= {f"/files/{name}": content for name, content in clips.items()}
    server.files["/list"] = json.dumps({"tree": [*tree, {"path": "README", "sha": ""}], "truncated": False}).encode()
    monkeypatch.setattr(sources, "_CREMAD_LIST", f"{server.url}/list")
    monkeypatch.setattr(sources, "_CREMAD_FILES", f"{server.url}/files/")
    monkeypatch.setattr(sources, "_CREMAD_CLIPS", 12)
    first = next(iter(clips))
    server.files[f"/files/{first}"] = (
        b"version https://git-lfs.github.com/spec/v1\n"  # the git-lfs pointer in place of the clip
    )
    with pytest.raises(DataError, match=rf"1 of 12 clips are missing: {first}"):
        download("cremad", tmp_path, progress=False)
    server.files[f"/files/{first}"] = clips[first]
    server.requests.clear()
    folder = download("cremad", tmp_path, progress=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == clips
    assert len(server.requests) == 2  # the list and the clip that was missing
    for evil in ("../evil.wav", "a/b.wav", ".wav", "a b.wav"):
        server.files["/list"] = json.dumps({"tree": [*tree[1:], {"path": evil, "sha": ""}]}).encode()
        with pytest.raises(DataError, match="newer serx"):
            download("cremad", tmp_path, progress=False)


def test_the_hash_of_a_pointer_is_git_s():
    assert sources._matches(b"what is up, doc?", "bd9dbf5aae1a3862dd1526723246b20206e5fc37")  # Pro Git, 10.2
    assert sources._matches(b"audio", pointer_hash(b"audio"))
    assert not sources._matches(b"audiO", pointer_hash(b"audio"))


def test_an_answer_longer_than_allowed_raises(server):
    with pytest.raises(DataError, match="more than 10 bytes"):
        get(f"{server.url}/a.zip", 10)


def test_urls_and_digests_are_well_formed():
    for source in SOURCES.values():
        for archive in source.archives:
            kind, _, digest = archive.digest.partition(":")
            assert archive.url.startswith("https://") and kind == "md5" and len(bytes.fromhex(digest)) == 16


@pytest.mark.parametrize(
    ("corpus", "message"), [("tess", "doi.org"), ("savee", "Register"), ("nothing", "ravdess, emodb")]
)
def test_the_command_prints_the_license_and_the_steps_by_hand(corpus, message, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/download.py"), corpus, "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert corpus == "nothing" or SOURCES[corpus].license in done.stdout
