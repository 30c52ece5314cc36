#!/usr/bin/env python3
"""Take the pictures that the documentation shows of a run of `make demo`: docs/images/demo*.png and tour_*.png.

    python scripts/screenshots.py checkpoints/demo/RUN

It needs `pip install -e '.[screenshots]'` and Chromium. The voices are synthetic.
"""

import argparse
import io
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from serx.cli.tensorboard import start
from serx.demo.analysis import RATE, synthetic_voice
from serx.demo.app import CONVERSATION, serve
from serx.inference.default_model import summary
from serx.inference.predictor import Predictor
from serx.plots.style import figure_png
from serx.training.run_folder import BEST

IMAGES = Path(__file__).parents[1] / "docs" / "images"
SIZES = {"demo": (1100, 900), "demo_phone": (390, 844)}
COLORS = 256  # of a palette, so that a picture has some 70 kB


def main() -> None:
    """Photographs the demo at two widths and TensorBoard, and draws a saliency."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--out", type=Path, default=IMAGES, metavar="DIR")
    arguments = parser.parse_args()
    browsers = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for path in map(shutil.which, browsers) if path), None)
    predictor = Predictor.load(arguments.run / BEST, "cpu")
    about = summary(predictor.metadata, predictor.min_confidence)
    saliency = predictor.explain(synthetic_voice(1, "angry"), RATE)
    save(figure_png(saliency.figure()), arguments.out / "tour_saliency.png")
    with serve(predictor, about, "127.0.0.1", None) as address, sync_playwright() as library:
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = library.chromium.launch(executable_path=chromium, args=flags)
        for name, (width, height) in SIZES.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(address)
            show_conversation(page)
            save(page.screenshot(full_page=True), arguments.out / f"{name}.png")
            page.close()
        page = browser.new_page(viewport={"width": 1200, "height": 560})
        page.goto(start(arguments.run, None))
        page.wait_for_timeout(12_000)  # TensorBoard does not say when its charts are drawn
        save(page.screenshot(), arguments.out / "tour_tensorboard.png")
        browser.close()


def show_conversation(page: Page) -> None:
    """Chooses the synthetic conversation and waits for the saliency of its first part."""
    page.click("#voice input")
    page.locator("[role=option]", has_text=CONVERSATION).click()
    page.click("#example")
    page.wait_for_selector("#saliency", timeout=120_000)
    page.wait_for_timeout(1500)


def save(png: bytes, path: Path) -> None:
    """Writes the picture with few colors."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLORS)
    picture.save(path, optimize=True)
    print(f"written: {path}, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
