#!/usr/bin/env python3
"""Take the pictures of the documentation that show the demo and TensorBoard: docs/images/demo*.png and tour_*.png.

It needs `pip install -e '.[screenshots]'` and Chromium. The voices are synthetic.
"""

import io
import os
import shutil
from pathlib import Path

from serx.cli.interrupts import exit_on_signals

exit_on_signals()
from serx.cli import common as commands  # noqa: E402  after the handlers are set

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZES = {"demo": (1100, 900), "demo_phone": (390, 844)}
COLORS = 256  # of a palette, so that a picture has some 70 kB
CHARTS_MS = 12_000  # TensorBoard does not say when its charts are drawn


def main(arguments) -> None:
    """Photographs the demo at two widths and TensorBoard, and draws a saliency."""
    from playwright.sync_api import sync_playwright

    from serx.cli.tensorboard import start
    from serx.demo.analysis import RATE, synthetic_voice
    from serx.demo.app import CONVERSATION, serve
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
        browser.close()


def save(png: bytes, path: Path) -> None:
    """Writes the picture with few colors."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLORS)
    picture.save(path, optimize=True)
    print(f"written: {path}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    parser = commands.parser(__doc__, "  python scripts/screenshots.py checkpoints/demo/RUN")
    parser.add_argument("run", metavar="RUN", help="folder of a run of `make demo`")
    parser.add_argument("--out", default=str(IMAGES), metavar="DIR", help="default: docs/images/")
    commands.run(main, parser.parse_args())
