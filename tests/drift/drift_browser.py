"""Chromium without a window, told over a pipe what to do: nothing but the browser itself is needed.

The protocol is Chrome's DevTools protocol: messages of JSON, each ended by a zero byte, on the descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39}
_SECONDS = 60
_LAUNCHER = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
for number, end in zip((3, 4), ends):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Gives the pipes the numbers that the browser looks at."""


def path() -> str | None:
    """Return where a browser is, None where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Browser:
    """A running Chromium."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._buffer = b""
        self._count = 0
        self.events: list[dict[str, Any]] = []

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol, and return its result."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._back, 2**16)
            assert part, "the browser has ended"
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def page(self, file: Path, *, width: int = 1000, dark: bool = False, script: bool = True) -> Page:
        """Open a file."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.send(f"{domain}.enable")
        page.resize(width)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.send("Emulation.setEmulatedMedia", features=[scheme])
        page.send("Emulation.setScriptExecutionDisabled", value=not script)
        page.send("Page.navigate", url=file.as_uri())
        end = time.monotonic() + _SECONDS
        while page.ask("document.readyState + location.href.startsWith('file:')") != "completetrue":
            assert time.monotonic() < end, "the page does not load"
            time.sleep(0.05)
        return page


class Page:
    """A page in a tab."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol on the page."""
        return self._browser.send(method, self._session, **parameters)

    def ask(self, expression: str) -> Any:
        """Return the value of an expression, evaluated in the page, also where the page's own scripts are off."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        code = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": _KEYS.get(key, 0)}
        # An Enter and a space are letters, too.
        typed = text or {"Enter": "\r", " ": " "}.get(key, "")
        self.send("Input.dispatchKeyEvent", type="keyDown", **code, **({"text": typed} if typed else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    def write(self, text: str) -> None:
        """Write a text into what has the focus."""
        self.send("Input.insertText", text=text)

    def resize(self, width: int) -> None:
        """Show the page on a screen of that width."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )

    def picture(self, file: Path) -> None:
        """Write what is seen to a PNG."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def events(self, method: str) -> list[dict[str, Any]]:
        """Return what the page has told of, under that name."""
        self.ask("1")
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event.get("method") == method
        ]


@contextlib.contextmanager
def running(binary: str, folder: Path) -> Iterator[Browser]:
    """Run a browser, with `folder` as its home."""
    down, to = os.pipe()
    back, up = os.pipe()
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-extensions",
        f"--user-data-dir={folder}",
        "--remote-debugging-pipe",
    ]
    command = [sys.executable, "-c", _LAUNCHER, str(down), str(up), binary, *options]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, pass_fds=(down, up), stdout=log, stderr=log, env=os.environ | {"HOME": str(folder)}
        )
        os.close(down)
        os.close(up)
        try:
            browser = Browser(to, back)
            yield browser
            with contextlib.suppress(AssertionError, OSError):
                browser.send("Browser.close")
        finally:
            os.close(to)
            os.close(back)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
