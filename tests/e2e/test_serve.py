"""`ascend-overlay run vllm serve`: an OpenAI server whose processes all carry the overlays, and that ends cleanly."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import serving
from e2e_kit import COMMAND, Demo, environment

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
    port = serving.free_port()
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
    # Set for a plugin of somebody else, this switches off every plugin of vLLM that it does not name, ours too.
    server = serving.started(command, environment(folder, VLLM_PLUGINS="somebody_elses_plugin"), folder)
    tree = ProcessTree(server.pid)
    try:
        serving.wait_until_up(server, port, log)
        tree.sample()
        _ask(port, found)
        tree.sample()
        server.send_signal(request.param)
        found.status = server.wait(timeout=60)
        found.left = [process.pid for process in tree.survivors(patience=15)]
        found.group = serving.group(server.pid)
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
