"""`ascend-overlay run vllm serve`: an OpenAI server whose processes all carry the overlays, and that ends cleanly."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import COMMAND, TIMEOUT, Demo, environment

from ascend_overlay.commands.demo.processes import ProcessTree
from ascend_overlay.ledgers import Ledger, read_folder

pytestmark = pytest.mark.e2e


@dataclass
class Served:
    """What came of a server from its start to its end."""

    completion: Any = None
    chat: Any = None
    status: int | None = None
    left: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)
    log: str = ""
    processes: set[int] = field(default_factory=set)


@pytest.fixture(scope="module", params=[signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def served(request: pytest.FixtureRequest, demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that answered and was then told to end by a signal."""
    folder = tmp_path_factory.mktemp("serve")
    port = _free_port()
    command = [*COMMAND, "run", "--ledger", str(folder / "ledger"), str(Path(sys.executable).with_name("vllm"))]
    command += [
        "serve",
        str(demo.folder / "model"),
        "--served-model-name",
        "tiny",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += ["--max-model-len", "256", "--max-num-seqs", "8", "--enforce-eager"]
    log = folder / "log.txt"
    found = Served()
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            # Set for a plugin of somebody else, this switches off every plugin of vLLM that it does not name, ours too.
            env=environment(folder, VLLM_PLUGINS="somebody_elses_plugin"),
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # A shell starts what runs in the background with interrupts ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    tree = ProcessTree(server.pid)
    try:
        _wait_until_up(server, port, log)
        tree.sample()
        _ask(port, found)
        tree.sample()
        server.send_signal(request.param)
        found.status = server.wait(timeout=60)
        found.left = [process.pid for process in tree.survivors(patience=15)]
        found.group = _group(server.pid)
    finally:
        tree.end()
        server.kill()
        server.wait()
    found.processes = set(tree.seen)
    found.ledgers = read_folder(folder / "ledger")
    found.log = log.read_text(errors="replace")
    yield found


def _ask(port: int, found: Served) -> None:
    import openai

    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=120, max_retries=0)
    with client:
        found.completion = client.completions.create(
            model="tiny", prompt="In the morning", max_tokens=12, temperature=0
        )
        message: Any = {"role": "user", "content": "How many numbers are there?"}
        found.chat = client.chat.completions.create(model="tiny", messages=[message], max_tokens=8, temperature=0)


def _wait_until_up(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text(errors="replace")[-8000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail(f"the server did not come up: {log.read_text(errors='replace')[-8000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _group(leader: int) -> list[int]:
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


def test_the_official_client_gets_completions(served: Served, demo: Demo) -> None:
    text = served.completion.choices[0].text
    assert served.completion.usage.completion_tokens == 12
    assert served.chat.choices[0].message.content
    # The same prompt, model and way of decoding as in the demo: the server must go on in the same way.
    outputs = demo.figures["overlaid"]["result"]["outputs"]
    expected = next(output["text"] for output in outputs if output["prompt"] == "In the morning")
    assert expected.startswith(text)


def test_each_process_has_one_record(served: Served) -> None:
    assert sorted(ledger.process["role"] for ledger in served.ledgers) == [
        "engine_core",
        "inspection",
        "main",
        "worker",
    ]
    running = {ledger.process["pid"] for ledger in served.ledgers if ledger.process["role"] != "inspection"}
    assert running <= served.processes


def test_each_process_carries_the_same_overlays(served: Served) -> None:
    patches = [{(entry.overlay, entry.kind, entry.target) for entry in ledger} for ledger in served.ledgers]
    assert patches[0]
    assert all(found == patches[0] for found in patches)
    for ledger in served.ledgers:
        states = [entry.state for entry in ledger]
        assert "applied" in states
        assert "failed" not in states


def test_the_worker_has_our_model(served: Served) -> None:
    worker = next(ledger for ledger in served.ledgers if ledger.process["role"] == "worker")
    model = next(entry for entry in worker if entry.target == "DeepseekV2ForCausalLM")
    assert model.state == "applied"
    assert any("AscendDeepseekV2ForCausalLM" in text for _, text in worker.notes), worker.notes


def test_it_ends_when_told_to(served: Served) -> None:
    assert served.status in (0, -signal.SIGINT, 130), served.log[-4000:]


def test_nothing_stays_behind(served: Served) -> None:
    assert served.left == []
    assert served.group == []
