"""The demo in a real browser: it shows predictions, parts and sentences, and serves nothing else."""

import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serx.demo.app import MAX_UPLOAD_MB, TOO_LARGE, serve
from serx.inference.predictor import Predictor
from serx.inference.segmentation import RATE
from tests.conftest import speechlike

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]
WAIT_MS = 90_000
HOSTILE = "<img src=x onerror=alert(1)>$(rm) \u202e.wav"


@pytest.fixture(scope="module")
def address():
    """The address of a running demo, started where the environment asks gradio to publish everything."""
    wrong = {"GRADIO_ALLOWED_PATHS": "/", "GRADIO_SHARE": "True", "GRADIO_SERVER_NAME": "0.0.0.0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in wrong.items():
            patch.setenv(name, value)
        with serve(Predictor.load(device="cpu"), "a model", "127.0.0.1", None) as url:
            yield url


@pytest.fixture
def page(address):
    """A page of the demo that fails the test if it opens a dialog or asks for anything from another computer."""
    with playwright.sync_playwright() as library:
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = library.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(WAIT_MS)
        foreign, dialogs = list[str](), list[str]()
        own = (address, "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(own) or foreign.append(request.url))
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        page.wait_for_selector("#example")
        yield page
        assert foreign == [] and dialogs == []
        browser.close()


def memory_mb() -> float:
    """What this process, which serves the demo, holds in memory; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS")), 0.0)


def upload(page, path) -> None:
    page.locator("#other input[type=file]").set_input_files(path)


def test_the_page_shows_predictions_parts_saliency_and_sentences(page, tmp_path):
    page.click("#voice input")
    page.locator("[role=option]", has_text="conversation").click()
    page.click("#example")
    page.wait_for_selector("#saliency")
    assert page.locator("#result .serx-bar").count() == 7
    assert page.locator("#timeline span").count() == page.locator("#parts label").count() == 8
    before = page.get_attribute("#saliency", "src")
    page.locator("#parts label").nth(2).click()
    page.wait_for_function("before => document.querySelector('#saliency').src !== before", arg=before, polling=200)
    page.wait_for_selector("#part button[aria-label='Play'], #part [aria-label='Pause'], #part .play-pause-button")

    soundfile.write(tmp_path / "clip.wav", speechlike(1.0, 150, 0), RATE)
    (tmp_path / "clip.wav").rename(tmp_path / HOSTILE)
    upload(page, tmp_path / HOSTILE)
    page.wait_for_function("document.querySelector('#result').innerText.includes('1.0 s')", polling=200)
    assert page.locator("#result img").count() == 0
    page.wait_for_function("!document.querySelector('#timeline')", polling=200)

    page.reload()
    page.wait_for_selector("#example")
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\x07" * 5000)
    upload(page, tmp_path / "broken.mp4")
    page.wait_for_function("document.querySelector('#result').innerText.includes('cannot be used')", polling=200)
    assert "Traceback" not in page.inner_text("body")

    before = memory_mb()
    with open(tmp_path / "large.wav", "wb") as file:
        file.truncate(2 * 10**9)
    for opens, place in (
        (None, "#other"), ("#recording button[aria-label*='pload']", "#recording"), ("#adaptation button", "#clips")
    ):  # fmt: skip
        page.reload()
        page.wait_for_selector("#example")
        if opens:
            page.locator(opens).first.click()
        page.locator(f"{place} input[type=file]").set_input_files(tmp_path / "large.wav")
        page.wait_for_selector("#refused:visible")
        assert page.inner_text("#refused") == TOO_LARGE
    assert memory_mb() < before + 100


def test_a_voice_is_adapted_to(page, tmp_path):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", speechlike(1.0, 150 + 10 * i, i), RATE)
    page.click("#example")
    page.wait_for_selector("#saliency")
    page.click("#adaptation button")
    page.locator("#clips input[type=file]").set_input_files([tmp_path / f"{i}.wav" for i in range(3)])
    page.wait_for_function("document.querySelector('#clips').innerText.split('.wav').length === 4", polling=200)
    page.click("#adapt")
    page.wait_for_function("document.querySelector('#result').innerText.includes('adapted to 3 clips')", polling=200)


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/file=/etc/passwd",
        "gradio_api/file=setup.cfg",
        "file=/etc/passwd",
        "gradio_api/file=../../etc/passwd",
    ],
)
def test_no_file_of_the_computer_is_served(address, path):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}{path}")
    assert refused.value.code in (403, 404)


def test_a_large_upload_is_refused_by_the_server_too(address):
    content = np.zeros(MAX_UPLOAD_MB * 10**6 + 1, np.uint8).tobytes()
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n' + content + b"\r\n--x--\r\n"
    request = urllib.request.Request(
        f"{address}gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 413
    kept = (file.stat().st_size for file in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if file.is_file())
    assert max(kept, default=0) <= MAX_UPLOAD_MB * 10**6


def test_the_environment_cannot_publish_the_page(address):
    assert address.startswith("http://127.0.0.1:")
    assert not [name for name in os.environ if name.startswith("GRADIO_") and name != "GRADIO_TEMP_DIR"]
