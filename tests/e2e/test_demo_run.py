"""`ascend-overlay demo`: stock and overlaid vLLM say the same, and the figures prove that overlays were at work."""

from __future__ import annotations

import pytest
from e2e_kit import Demo, again

from ascend_overlay.commands.demo import command, runs
from ascend_overlay.commands.demo.checks import OPERATORS

pytestmark = pytest.mark.e2e

PHASES = ["import vLLM", "start the engine", "first token", "generate", "shut down"]


def test_everything_is_as_it_should_be(demo: Demo) -> None:
    assert demo.status == 0, demo.figures["checks"]
    assert demo.figures["ok"] is True
    assert [check["name"] for check in demo.figures["checks"] if not check["ok"]] == []


def test_both_runs_generated_what_was_asked_for(demo: Demo) -> None:
    for run in (demo.figures["stock"], demo.figures["overlaid"]):
        assert run["status"] == 0
        assert [len(output["tokens"]) for output in run["result"]["outputs"]] == [16] * 4
        assert all(output["text"].strip() for output in run["result"]["outputs"])


def test_greedy_tokens_agree(demo: Demo) -> None:
    stock, overlaid = (
        [output["tokens"] for output in demo.figures[name]["result"]["outputs"]] for name in ("stock", "overlaid")
    )
    near_ties = [found["tie"] for found in demo.figures["differences"] if found["tie"] is not None]
    assert stock == overlaid or (near_ties and max(near_ties) <= demo.figures["tolerance_nats"])


def test_only_the_overlaid_run_was_overlaid(demo: Demo) -> None:
    assert demo.figures["stock"]["result"]["overlaid"] is False
    assert demo.figures["stock"]["ledgers"] == []
    assert demo.figures["overlaid"]["result"]["overlaid"] is True


def test_every_process_has_one_ledger(demo: Demo) -> None:
    roles = [ledger["process"]["role"] for ledger in demo.figures["overlaid"]["ledgers"]]
    assert sorted(roles) == ["engine_core", "inspection", "main", "worker"]


def test_the_worker_runs_the_operators(demo: Demo) -> None:
    counts = demo.figures["operators"]
    assert [name for name in OPERATORS if not counts.get(name, {}).get("worker")] == []


def test_the_overlaid_model_class_was_loaded(demo: Demo) -> None:
    worker = next(ledger for ledger in demo.figures["overlaid"]["ledgers"] if ledger["process"]["role"] == "worker")
    states = {entry["target"]: entry["state"] for entry in worker["entries"]}
    assert states["DeepseekV2ForCausalLM"] == "applied"


def test_figures_hold_time_and_memory(demo: Demo) -> None:
    for run in (demo.figures["stock"], demo.figures["overlaid"]):
        assert list(run["phases"]) == PHASES
        assert run["seconds"] > sum(run["phases"].values()) > 0
        assert run["peak_memory_bytes"] > max(process["peak_bytes"] for process in run["processes"]) > 0
        assert run["survivors"] == []


def test_beside_the_document_there_is_progress_alone(demo: Demo) -> None:
    said = [(line.split()[0], " ".join(line.split()[1:-2])) for line in demo.beside.splitlines()]
    assert said == [("both", "make the model"), *((name, phase) for name in ("stock", "overlaid") for phase in PHASES)]


def test_without_json_it_tells_it_to_a_person(
    demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "execute", lambda name, *_, **__: again(name, demo))
    assert command.main([]) == 0
    output = capsys.readouterr().out
    lines = output.splitlines()
    assert max(map(len, lines)) <= 120
    assert "\x1b" not in output
    for text in ("engine_core", "DeepseekV2ForCausalLM", "overlaid/stock", "tokens agree", "peak memory"):
        assert text in output
    assert lines[-1].startswith("All ")


def test_what_was_to_be_kept_is_there(demo: Demo) -> None:
    assert (demo.folder / "model" / "model.safetensors").exists()
    assert len(list((demo.folder / "overlaid" / "ledger").glob("*.json"))) == 4
    assert (demo.folder / "stock" / "log.txt").stat().st_size > 0
