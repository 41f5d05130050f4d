"""Photograph a page with a headless Chromium, which has to be installed.

    python docs/make_screenshot.py PAGE PICTURE HEIGHT [TEXT]

PAGE is an address or an HTML file; PICTURE gets a PNG of 1,400 × HEIGHT pixels. With TEXT it waits until the page says
so, and closes what has a button to close it, such as MLflow's assistant. The pictures of the README:

    mriscope compare runs/study/* --out compared
    .venv/bin/python docs/make_screenshot.py compared/compare.html docs/images/compare.png 1300
    mriscope audit hf:Falah/Alzheimer_MRI --out audited
    .venv/bin/python docs/make_screenshot.py audited/audit.html docs/images/audit.png 940
    mriscope ui                                                                # prints its ADDRESS
    .venv/bin/python docs/make_screenshot.py ADDRESS docs/images/mlflow.png 900 "matching runs"
"""

import asyncio
import base64
import io
import itertools
import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from tornado.websocket import WebSocketClientConnection, websocket_connect

QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
)
CLOSE = "[...document.querySelectorAll('button[aria-label=Close]')].forEach(button => button.click())"
WIDTH, SECONDS = 1400, 120


async def main(page: str, picture: Path, height: int, text: str) -> None:
    address = page if "://" in page else Path(page).resolve().as_uri()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = subprocess.Popen(
            ["chromium", *QUIET, f"--user-data-dir={folder}", address], stderr=subprocess.DEVNULL
        )
        try:
            content = await asyncio.wait_for(photograph(Path(folder), height, text), SECONDS)
        finally:
            browser.terminate()
            browser.wait()
    Image.open(io.BytesIO(content)).convert("RGB").save(picture, optimize=True)
    print(f"written: {picture}, {picture.stat().st_size / 1000:.0f} kB")


async def photograph(folder: Path, height: int, text: str) -> bytes:
    connection = await websocket_connect(await debugger(folder), max_message_size=10**9)
    size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
    await call(connection, "Emulation.setDeviceMetricsOverride", size)
    asked = f"document.readyState === 'complete' && document.body.innerText.includes({json.dumps(text)})"
    while "True" not in str(await call(connection, "Runtime.evaluate", {"expression": asked})):
        await asyncio.sleep(1)
    if text:
        await call(connection, "Runtime.evaluate", {"expression": CLOSE})
        await asyncio.sleep(5)
    return base64.b64decode((await call(connection, "Page.captureScreenshot", {}))["data"])


async def debugger(folder: Path) -> str:
    """The address where the browser's page takes orders, once it is there."""
    while True:
        await asyncio.sleep(1)
        port = folder / "DevToolsActivePort"
        if port.is_file() and port.read_text():
            tabs = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json", timeout=60))
            for tab in tabs:
                if tab["type"] == "page":
                    return tab["webSocketDebuggerUrl"]


NUMBERS = itertools.count(1)


async def call(connection: WebSocketClientConnection, method: str, params: dict[str, Any]) -> dict[str, Any]:
    number = next(NUMBERS)
    await connection.write_message(json.dumps({"id": number, "method": method, "params": params}))
    while True:
        answer = json.loads(await connection.read_message() or "{}")
        if answer.get("id") == number:
            return answer["result"]


if __name__ == "__main__":
    _, page, picture, height, *text = sys.argv
    asyncio.run(main(page, Path(picture), int(height), "".join(text)))
