"""What the tests of `vllm serve` share: starting a server, and seeing what is left of it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from e2e_kit import TIMEOUT


def started(command: Sequence[str], env: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a server as the first of its own group of processes; what it says goes to log.txt in `folder`."""
    with (folder / "log.txt").open("wb") as output:
        return subprocess.Popen(
            command,
            env=dict(env),
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell starts what runs in the background with interrupts ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def wait_until_up(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return when the server answers; fail where it ends or does not come up."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text(errors="replace")[-8000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not come up: {log.read_text(errors='replace')[-8000:]}")


def completion(port: int, prompt: Sequence[int], tokens: int) -> list[int]:
    """Return the tokens that a server at `port`, whose model is called tiny, answers greedily."""
    asked = {"model": "tiny", "prompt": list(prompt), "max_tokens": tokens, "temperature": 0}
    body = json.dumps(asked | {"ignore_eos": True, "return_token_ids": True}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        found: list[int] = json.load(answer)["choices"][0]["token_ids"]
    return found


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def group(leader: int) -> list[int]:
    """Return the living members of the process group of `leader`, other than multiprocessing's resource trackers."""
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "stat").read_text()
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        state, _, group = text[text.rindex(")") + 2 :].split()[:3]
        if int(group) == leader and state not in "ZX" and b"resource_tracker" not in words:
            members.append(int(entry.name))
    return members
