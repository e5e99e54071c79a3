"""`vllm serve` on device "npu": several at a time ask the official client's way, one goes away, and the server ends."""

from __future__ import annotations

import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import npu_features
import pytest
import serving
from e2e_kit import environment
from npu_runs import Answers
from software_npu import with_an_npu

from ascend_overlay.commands.demo.processes import ProcessTree

pytestmark = pytest.mark.e2e

LONG, SHORT, CHAT = 240, 12, 8
"""Tokens that are asked for: by who goes away, by the others."""


@dataclass
class Served:
    """What came of a server from its start to its end."""

    at_once: list[list[int]] = field(default_factory=list)
    streamed: list[int] = field(default_factory=list)
    pieces: int = 0
    chat: Any = None
    refused: str = ""
    generated: float = 0.0
    status: int | None = None
    left: list[int] = field(default_factory=list)
    group: list[int] = field(default_factory=list)
    log: str = ""


@pytest.fixture(scope="module")
def served(on_npu: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that answered and was then told to end."""
    folder = tmp_path_factory.mktemp("npu_serve")
    port = serving.free_port()
    model = str(on_npu.folder / "models" / "llama3")
    arguments = ["-m", "vllm.entrypoints.cli.main", "serve", model, "--served-model-name", "tiny"]
    arguments += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "256", "--max-num-seqs", "8"]
    arguments += ["--kv-cache-memory-bytes", str(64 << 20), "--max-num-batched-tokens", "96"]
    command, variables = with_an_npu(*arguments)
    found = Served()
    server = serving.started(command, environment(folder) | variables, folder)
    tree = ProcessTree(server.pid)
    try:
        serving.wait_until_up(server, port, folder / "log.txt")
        tree.sample()
        _ask(port, found)
        tree.sample()
        server.send_signal(signal.SIGTERM)
        found.status = server.wait(timeout=60)
        found.left = [process.pid for process in tree.survivors(patience=15)]
        found.group = serving.group(server.pid)
    finally:
        tree.end()
        server.kill()
        server.wait()
    found.log = (folder / "log.txt").read_text(errors="replace")
    yield found


def _ask(port: int, found: Served) -> None:
    import openai

    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", timeout=120, max_retries=0)
    more: dict[str, Any] = {"ignore_eos": True, "return_token_ids": True}

    def completion(prompt: list[int], **options: Any) -> Any:
        return client.completions.create(model="tiny", prompt=prompt, temperature=0, extra_body=more, **options)

    with client:
        # It is still answered while the others are, and given up by who asked.
        given_up = completion([5, 6, 7], max_tokens=LONG, stream=True)
        next(iter(given_up))
        with ThreadPoolExecutor(8) as several:
            prompts = [*npu_features.PROMPTS, *npu_features.PROMPTS]
            answers = several.map(lambda prompt: completion(prompt, max_tokens=SHORT), prompts)
            found.at_once = [answer.choices[0].token_ids for answer in answers]
        given_up.close()
        for piece in completion(npu_features.PROMPTS[0], max_tokens=SHORT, stream=True):
            found.streamed += piece.choices[0].token_ids or []
            found.pieces += 1
        message: Any = {"role": "user", "content": "How many numbers are there?"}
        found.chat = client.chat.completions.create(model="tiny", messages=[message], max_tokens=CHAT, temperature=0)
        try:
            completion([1] * 300, max_tokens=SHORT)
        except openai.BadRequestError as error:
            found.refused = str(error)
    deadline = time.monotonic() + 30
    while _metric(port, "vllm:num_requests_running") and time.monotonic() < deadline:
        time.sleep(0.2)
    found.generated = _metric(port, "vllm:generation_tokens_total")


def _metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name}{{")))


def test_several_at_a_time_are_answered_as_by_stock_vllm_on_the_cpu(served: Served, on_npu: Answers) -> None:
    wanted = on_npu.cpu["features"]["greedy"]["plain"]["tokens"]
    assert served.at_once == [*wanted, *wanted]


def test_a_stream_says_the_same_piece_by_piece(served: Served) -> None:
    assert served.streamed == served.at_once[0]
    assert served.pieces > 3


def test_a_chat_is_answered(served: Served) -> None:
    assert served.chat.choices[0].message.content
    assert served.chat.usage.completion_tokens == CHAT


def test_who_goes_away_is_not_answered_further(served: Served) -> None:
    others = len(served.at_once) * SHORT + SHORT + CHAT
    assert others < served.generated < others + LONG


def test_a_prompt_that_is_too_long_is_refused_and_the_server_goes_on(served: Served) -> None:
    assert "256" in served.refused


def test_it_runs_on_the_npu(served: Served) -> None:
    assert "NPU KV cache size" in served.log
    assert "for ASCEND backend(s)" in served.log


def test_it_ends_when_told_to_and_nothing_stays_behind(served: Served) -> None:
    assert served.status == 0, served.log[-4000:]
    assert served.left == served.group == []
