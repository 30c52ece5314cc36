"""Downloading, against a server on this machine: cut, resumed, lied to, and whole at the end or not there at all."""

import hashlib
import io
import json
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serx.data.download import fetch as fetching
from serx.data.download import sources as downloads
from serx.data.download.fetch import fetch, get
from serx.data.download.sources import SOURCES, Archive, Source, download
from serx.errors import ConfigError, DataError, DiskError

ROOT = Path(__file__).parents[3]
CONTENT = bytes(range(256)) * 2000
SIZE = len(CONTENT)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Handler(BaseHTTPRequestHandler):
    """Serves `server.files`; `server.faults` are used up one a request."""

    def do_GET(self):
        server, path = self.server, self.path.split("?")[0]
        asked = self.headers.get("Range")
        server.asked.append((path, asked))
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
        start = int(asked[6:-1]) if asked and fault != "no ranges" else 0
        if start > len(content):
            self.send_error(416)
            return
        self.send_response(206 if asked and fault != "no ranges" else 200)
        if asked and fault != "no ranges":
            told = 0 if fault == "another range" else start
            self.send_header("Content-Range", f"bytes {told}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: len(rest) // 2] if fault == "cut" else rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, "PATIENCE_SECONDS", 0.001)
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.files, made.faults, made.asked = {"/a.zip": CONTENT}, [], []
    made.url = f"http://127.0.0.1:{made.server_port}"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def bring(server, path: Path, size=SIZE, digest=MD5) -> Path:
    return fetch(f"{server.url}/a.zip", path, size, digest, progress=False)


def test_a_file_arrives_and_is_not_fetched_again(server, tmp_path):
    path = bring(server, tmp_path / "deep" / "a.zip")
    assert path.read_bytes() == CONTENT
    bring(server, path)
    assert len(server.asked) == 1
    assert [p.name for p in path.parent.iterdir()] == ["a.zip"]


def test_a_cut_connection_is_taken_up_where_it_was_cut(server, tmp_path):
    server.faults = ["cut", "cut", "500", "cut"]
    assert bring(server, tmp_path / "a.zip").read_bytes() == CONTENT
    starts = [int(asked[6:-1]) for _, asked in server.asked if asked]
    assert starts == sorted(starts) and starts[0] == len(CONTENT) // 2


def test_a_download_stopped_yesterday_goes_on_today(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    assert bring(server, tmp_path / "a.zip").read_bytes() == CONTENT
    assert server.asked == [("/a.zip", "bytes=1000-")]


@pytest.mark.parametrize("fault", ["no ranges", "another range"])
def test_a_server_that_answers_another_range_never_gives_a_mixed_file(fault, server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"?" * 1000)
    server.faults = [fault] * 2
    if fault == "no ranges":
        assert bring(server, tmp_path / "a.zip").read_bytes() == CONTENT
    else:
        with pytest.raises(DataError, match="md5"):
            bring(server, tmp_path / "a.zip")
        assert bring(server, tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_that_is_none_of_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:1000])
    server.faults = ["416"]
    assert bring(server, tmp_path / "a.zip").read_bytes() == CONTENT


def test_another_content_is_refused_by_its_digest_and_deleted(server, tmp_path):
    server.files["/a.zip"] = CONTENT[:-1] + b"x"
    with pytest.raises(DataError, match=MD5):
        bring(server, tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())


def test_a_longer_answer_is_cut_off_and_refused(server, tmp_path):
    server.files["/a.zip"] = CONTENT * 20
    with pytest.raises(DataError, match="longer"):
        bring(server, tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())


def test_a_server_that_stays_broken_is_given_up_and_what_came_is_kept(server, tmp_path):
    server.faults = ["cut"] + ["503"] * 50
    with pytest.raises(DataError, match=r"503.*are kept, run the command again"):
        bring(server, tmp_path / "a.zip")
    assert (tmp_path / "a.zip.part").stat().st_size == len(CONTENT) // 2
    server.faults = []
    assert bring(server, tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_file_that_is_gone_is_told_at_once(server, tmp_path):
    server.files.clear()
    with pytest.raises(DataError, match="404"):
        bring(server, tmp_path / "a.zip")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "url", ["http://example.org/a", "ftp://127.0.0.1/a", "file:///etc/passwd", "http://localhost.x/a"]
)
def test_only_https_is_spoken_and_no_redirect_leads_out_of_it(url, server, tmp_path):
    with pytest.raises(ConfigError, match="https"):
        fetch(url, tmp_path / "a", 1, MD5)
    server.faults = [f"to {url}"]
    with pytest.raises((ConfigError, DataError), match="https|not allowed"):
        bring(server, tmp_path / "a.zip")


def test_too_little_room_is_told_before_anything_is_fetched(server, tmp_path):
    with pytest.raises(DiskError, match="MB free"):
        bring(server, tmp_path / "a.zip", size=1 << 60)
    assert not server.asked


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


def test_a_corpus_is_fetched_unpacked_and_counted_once(server, tmp_path, monkeypatch):
    offer(server, monkeypatch, corpus_zip(["Actor_01/a.wav", "Actor_01/b.wav", "Actor_01/._a.wav"]), 2)
    folder = download("ravdess", tmp_path, progress=False)
    assert sorted(p.relative_to(tmp_path).as_posix() for p in folder.rglob("*.wav"))[1:] == [
        "ravdess/speech/Actor_01/a.wav", "ravdess/speech/Actor_01/b.wav",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["ravdess"]
    download("ravdess", tmp_path, progress=False)
    assert len(server.asked) == 1


def test_a_hostile_archive_with_a_right_digest_is_refused_unwritten(server, tmp_path, monkeypatch):
    offer(server, monkeypatch, corpus_zip(["a.wav", "../../evil.wav"]), 1)
    with pytest.raises(DataError, match=r"evil\.wav.*nothing was unpacked"):
        download("ravdess", tmp_path / "in" / "root", progress=False)
    assert not list(tmp_path.rglob("*.wav"))


def test_missing_clips_are_counted(server, tmp_path, monkeypatch):
    offer(server, monkeypatch, corpus_zip(["a.wav"]), 2)
    with pytest.raises(DataError, match="1 clips arrived, 2 were published"):
        download("ravdess", tmp_path, progress=False)


def note_hash(content: bytes) -> str:
    oid = hashlib.sha256(content).hexdigest()
    note = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    return hashlib.sha1(f"blob {len(note)}\0{note}".encode()).hexdigest()


def test_crema_d_comes_clip_by_clip_each_checked_and_goes_on_where_it_stopped(server, tmp_path, monkeypatch):
    clips = {f"10{i:02d}_DFA_ANG_XX.wav": bytes([i]) * 100 for i in range(1, 13)}
    tree = [{"path": name, "sha": note_hash(content)} for name, content in clips.items()]
    server.files |= {f"/files/{name}": content for name, content in clips.items()}
    server.files["/list"] = json.dumps({"tree": [*tree, {"path": "README", "sha": ""}], "truncated": False}).encode()
    monkeypatch.setattr(downloads, "_CREMAD_LIST", f"{server.url}/list")
    monkeypatch.setattr(downloads, "_CREMAD_FILES", f"{server.url}/files/")
    monkeypatch.setattr(downloads, "_CREMAD_CLIPS", 12)
    first = next(iter(clips))
    server.files[f"/files/{first}"] = b"version https://git-lfs.github.com/spec/v1\n"  # the note in place of the clip
    with pytest.raises(DataError, match=rf"1 of 12 clips did not arrive: {first}"):
        download("cremad", tmp_path, progress=False)
    server.files[f"/files/{first}"] = clips[first]
    server.asked.clear()
    folder = download("cremad", tmp_path, progress=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == clips
    assert len(server.asked) == 2  # the list and the clip that was missing
    for evil in ("../evil.wav", "a/b.wav", ".wav", "a b.wav"):
        server.files["/list"] = json.dumps({"tree": [*tree[1:], {"path": evil, "sha": ""}]}).encode()
        with pytest.raises(DataError, match="newer serx"):
            download("cremad", tmp_path, progress=False)


def test_the_hash_of_a_note_is_gits():
    assert downloads._is_named(b"what is up, doc?", "bd9dbf5aae1a3862dd1526723246b20206e5fc37")  # Pro Git, 10.2
    assert downloads._is_named(b"audio", note_hash(b"audio"))
    assert not downloads._is_named(b"audiO", note_hash(b"audio"))


def test_a_small_answer_is_never_large(server):
    with pytest.raises(DataError, match="more than 10 bytes"):
        get(f"{server.url}/a.zip", 10)


def test_what_is_published_is_spelt_plausibly():
    for source in SOURCES.values():
        for archive in source.archives:
            kind, _, digest = archive.digest.partition(":")
            assert archive.url.startswith("https://") and kind == "md5" and len(bytes.fromhex(digest)) == 16


@pytest.mark.parametrize(
    ("corpus", "told"), [("tess", "doi.org"), ("savee", "Register"), ("nothing", "ravdess, emodb")]
)
def test_the_script_shows_the_licence_and_says_what_to_do_by_hand(corpus, told, tmp_path):
    command = [sys.executable, str(ROOT / "scripts/download.py"), corpus, "--root", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
    assert corpus == "nothing" or SOURCES[corpus].license in done.stdout
