#!/usr/bin/env python3
"""Take the pictures of the documentation that show the demo, a page of results and TensorBoard.

They are docs/images/demo*.png, report.png and tour_*.png.

It needs `pip install -e '.[screenshots]'` and Chromium. The voices are synthetic.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from serx.cli.interrupts import exit_on_signals

exit_on_signals()
from serx.cli.execution import run_main  # noqa: E402  after the handlers are set
from serx.cli.parsing import make_parser  # noqa: E402  after the handlers are set

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZES = {"demo": (1100, 900), "demo_phone": (390, 844)}
COLORS = 256  # of a palette, so that a picture has some 70 kB
PHONE, PANEL, GAP, GRAY = (390, 640), (293, 480), 10, "#8f959e"  # of the page of results: a phone, and its picture
# What each phone shows: the color scheme, the element at its top, and pixels above it.
VIEWS = (("light", "h1", 20), ("light", "h2:has-text('Confusion matrix')", 14), ("dark", ".map", 60),
         ("dark", ".card >> nth=1", 10))  # fmt: skip
CHARTS_MS = 12_000  # TensorBoard does not say when its charts are drawn


def main(arguments) -> None:
    """Photographs the demo at two widths, a page of results and TensorBoard, and draws a saliency."""
    from playwright.sync_api import sync_playwright

    from serx.cli.tensorboard import start
    from serx.demo.analysis import RATE, synthetic_voice
    from serx.demo.answers import CONVERSATION
    from serx.demo.app import serve
    from serx.inference.default_model import summary
    from serx.inference.predictor import Predictor
    from serx.plots.style import figure_png
    from serx.training.run_folder import BEST

    run, out = Path(arguments.run), Path(arguments.out)
    predictor = Predictor.load(run / BEST, "cpu")
    save(figure_png(predictor.explain(synthetic_voice(1, "angry"), RATE).figure()), out / "tour_saliency.png")
    browsers = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for path in map(shutil.which, browsers) if path), None)
    about = summary(predictor.metadata, predictor.min_confidence)
    with serve(predictor, about, "127.0.0.1", None) as address, sync_playwright() as library:
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = library.chromium.launch(executable_path=chromium, args=flags)
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(address)
            page.click("#voice input")
            page.locator("[role=option]", has_text=CONVERSATION).click()
            page.click("#example")
            page.wait_for_selector("#saliency", timeout=120_000)
            page.wait_for_timeout(1500)
            save(page.screenshot(full_page=True), out / f"{name}.png")
            page.close()
        page = browser.new_page(viewport={"width": 1200, "height": 450})
        page.goto(start(run, None))
        page.wait_for_timeout(CHARTS_MS)
        save(page.screenshot(), out / "tour_tensorboard.png")
        save(report_picture(browser, run / BEST), out / "report.png")
        browser.close()


def report_picture(browser, checkpoint: Path) -> bytes:
    """Four parts of the page of `serx evaluate --report` on a phone, side by side."""
    from PIL import Image

    width, height = PANEL
    canvas = Image.new("RGB", (len(VIEWS) * (width + GAP) + GAP, height + 2 * GAP), GRAY)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.html"
        words = ["--checkpoint", str(checkpoint), "--out", folder, "--report", str(report), "--device", "cpu"]
        subprocess.run([sys.executable, "-m", "serx", "evaluate", *words], check=True, stdout=subprocess.DEVNULL)
        for i, (scheme, element, above) in enumerate(VIEWS):
            context = browser.new_context(
                viewport=dict(zip(("width", "height"), PHONE, strict=True)), color_scheme=scheme, offline=True
            )
            page = context.new_page()
            page.goto(report.as_uri())
            top = page.locator(element).first.bounding_box()["y"]
            page.evaluate("top => window.scrollTo(0, top)", max(0, top - above))
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            canvas.paste(picture.resize(PANEL, Image.Resampling.LANCZOS), (GAP + i * (width + GAP), GAP))
            context.close()
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def save(png: bytes, path: Path) -> None:
    """Writes the picture with few colors: the most frequent ones as they are, such as those of backgrounds, and others
    that lie far apart, such as those of a small dot."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    ranked = sorted(picture.getcolors(picture.width * picture.height), reverse=True)
    frequent = [color for _, color in ranked[: COLORS // 2]]
    apart = picture.quantize(COLORS - len(frequent), Image.Quantize.MAXCOVERAGE).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette([channel for color in frequent for channel in color] + apart)
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"written: {path}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    parser = make_parser(__doc__, "  python scripts/screenshots.py checkpoints/demo/RUN")
    parser.add_argument("run", metavar="RUN", help="folder of a run of `make demo`")
    parser.add_argument("--out", default=str(IMAGES), metavar="DIR", help="default: docs/images/")
    run_main(main, parser.parse_args())
