"""Photograph a page with a headless Chromium, which has to be installed.

    python docs/make_screenshot.py PAGE PICTURE WIDTH HEIGHT [KEPT]

PAGE is an address or an HTML file; PICTURE gets a PNG of WIDTH × HEIGHT pixels, or of its leftmost KEPT columns. On a
busy machine Chromium may stop half-way; the same command again does it. The pictures of the README:

    mriscope compare runs/study/* --out compared
    .venv/bin/python docs/make_screenshot.py compared/compare.html docs/images/compare.png 1400 1300
    mriscope ui                                   # prints its address; then in another terminal, without the assistant
    .venv/bin/python docs/make_screenshot.py ADDRESS docs/images/mlflow.png 1400 700 1030
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


def main(page: str, picture: Path, width: int, height: int, kept: int) -> None:
    address = page if "://" in page else Path(page).resolve().as_uri()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        shot = Path(folder, "shot.png")
        options = (f"--user-data-dir={folder}/user", f"--window-size={width},{height}", "--virtual-time-budget=15000")
        command = ["chromium", *QUIET, *options, f"--screenshot={shot}", address]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        colours = Image.open(shot).convert("RGB").crop((0, 0, kept, height))
        colours.quantize(256, Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)
    print(f"written: {picture}, {picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    _, page, picture, width, height, *kept = sys.argv
    main(page, Path(picture), int(width), int(height), int((kept or [width])[0]))
