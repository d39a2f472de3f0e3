"""A headless Chromium, driven by its DevTools protocol: no driver program that has to fit the browser's version."""

import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-port=0 --remote-allow-origins=*"
).split()
SECONDS = 30


def find() -> str | None:
    """The path of Chromium or Chrome, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


class Page:
    """One tab."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=SECONDS)
        self._numbers = itertools.count(1)
        self.send("Page.enable")
        self.send("DOM.enable")

    def send(self, method: str, **parameters: Any) -> dict:
        """Calls a method of the protocol and returns its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]

    def open(self, url: str, width: int, height: int) -> None:
        """Loads `url` in a window of that size."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Returns when `expression` is true."""
        deadline = time.monotonic() + SECONDS
        while not self.run(expression):
            assert time.monotonic() < deadline, (
                f"not within {SECONDS} s: {expression}; {self.run('document.body.innerText')}"
            )
            time.sleep(0.02)

    def choose(self, selector: str, *paths: Path) -> None:
        """Chooses a file in an <input type=file>, as the file dialogue would."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def drop(self, selector: str, *paths: Path) -> None:
        """Drags a file from the desktop onto an element."""
        box = self.run(
            "(box => [box.x + box.width / 2, box.y + box.height / 2])"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)

    def press(self, key: str, code: int) -> None:
        """Presses a key."""
        text = {"text": "\r"} if key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Types into the element that has the focus."""
        self.send("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        """Saves the whole page as a PNG."""
        path.write_bytes(b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextlib.contextmanager
def opened() -> Iterator[Page]:
    """A tab of a new Chromium with a profile of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen([find(), *FLAGS, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
        try:
            yield Page(_address(Path(profile, "DevToolsActivePort")))
        finally:
            process.terminate()
            process.wait(SECONDS)


def _address(announced: Path) -> str:
    deadline = time.monotonic() + SECONDS
    while not (announced.exists() and announced.read_text().count("\n")):
        assert time.monotonic() < deadline, "Chromium does not start"
        time.sleep(0.05)
    with urllib.request.urlopen(f"http://127.0.0.1:{announced.read_text().split()[0]}/json") as response:
        return next(tab["webSocketDebuggerUrl"] for tab in json.load(response) if tab["type"] == "page")
