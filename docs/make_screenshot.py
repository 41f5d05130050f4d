"""Photograph a page with a headless Chromium, which has to be installed.

    python docs/make_screenshot.py PAGE PICTURE [HEIGHT]

PAGE is an address or an HTML file, PICTURE a PNG of 1,400 × HEIGHT (1,200) pixels. The pictures of the README:

    mriscope compare runs/study/* --out compared
    .venv/bin/python docs/make_screenshot.py compared/compare.html docs/images/compare.png 1900
    mriscope ui                                                # prints its address; in another terminal then
    .venv/bin/python docs/make_screenshot.py "ADDRESS" docs/images/mlflow.png 900
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
COLOURS = 256
"""Kept of a picture's colours: pages have few, and the file is a third of the size."""


def main(page: str, picture: Path, height: int) -> None:
    address = page if "://" in page else Path(page).resolve().as_uri()
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder, "shot.png")
        options = (f"--user-data-dir={folder}/user", f"--window-size=1400,{height}", "--virtual-time-budget=30000")
        subprocess.run(["chromium", *QUIET, *options, f"--screenshot={shot}", address], check=True, capture_output=True)
        Image.open(shot).convert("RGB").quantize(COLOURS).save(picture, optimize=True)
    print(f"written: {picture}, {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1200)
