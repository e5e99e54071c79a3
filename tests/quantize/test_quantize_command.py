"""`ascend-overlay quantize` as a user meets it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import quantize_kit as kit
from click.testing import CliRunner, Result
from rich.console import Console

from ascend_overlay.commands.cli import main
from ascend_overlay.commands.quantize import calibration
from ascend_overlay.commands.quantize.run import quantize
from ascend_overlay.commands.quantize.show import Shown


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a model of experts in two files."""
    kit.write(tmp_path / "model", kit.moe(), shards=2, num_hidden_layers=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["quantize", *arguments])


def refused(*arguments: str) -> str:
    """Return the sentence of a run that is refused without a traceback."""
    done = command(*arguments)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.output
    assert done.stderr.startswith("Error: ")
    return " ".join(done.stderr.removeprefix("Error: ").split())


def test_what_it_says_when_it_is_done(folder: Path) -> None:
    done = command("model", "out", "--scheme", "w8a16")
    assert done.exit_code == 0, done.output
    lines = [line.rstrip() for line in done.output.splitlines()]
    assert [line.split()[0] for line in lines[:2]] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert "quantized   7 layers to W8A16" in lines
    assert "kept        18 layers for multi-token prediction, which only speculative decoding uses" in lines
    assert "            9 routed experts: the NPU has no W8A16 for them" in lines
    assert "            1 MLA's kv_b_proj: attention absorbs it and needs it in float" in lines
    assert any(re.match(r"error       0\.\d\d% of the weight at most: model\.layers\.0\.", line) for line in lines)
    assert any(line.startswith("note        Routed experts stay in float") for line in lines)
    assert lines[-1] == "Serve it with: ascend-overlay run vllm serve out"
    again = command("model", "out", "--scheme", "w8a16").output
    assert again.count("was there already, verified") == 2


def test_what_it_would_do(folder: Path) -> None:
    done = command("model", "out", "--scheme", "w8a8", "--dry-run")
    assert done.exit_code == 0, done.output
    assert not (folder / "out").exists()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.output.splitlines() if "│" in line]
    assert ["model.layers.*.mlp.experts.*.gate_proj", "16 x 16", "W8A8_DYNAMIC", "3"] in rows
    assert ["model.layers.*.self_attn.q_a_proj", "16 x 16", "W8A8", "1"] in rows
    assert "Routed experts become W8A8_DYNAMIC: the NPU has no static scheme for them." in done.output


def test_a_dry_run_is_quick(folder: Path, python: Any) -> None:
    arguments = ["quantize", str(folder / "model"), "out", "--scheme", "w8a8", "--dry-run"]
    code = (
        "import sys; from ascend_overlay.commands.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "assert not {'torch', 'vllm', 'numpy', 'safetensors'} & set(sys.modules)"
    )
    assert "W8A8_DYNAMIC" in python("-c", code).stdout


def test_errors_are_sentences(folder: Path) -> None:
    assert refused("absent", "out", "--scheme", "w8a16").startswith("'absent' is not a folder.")
    assert refused("model", "out", "--scheme", "w4a4").startswith("there is no scheme 'w4a4'; there are w8a8,")
    assert "Pass --calibrate FILE" in refused("model", "out", "--scheme", "w8a8")
    assert refused("model", "out", "--scheme", "w8a16", "--keep", "*.nothing").startswith(
        "--keep '*.nothing' matches no layer of the model. --dry-run shows the names"
    )
    assert refused("model", "model", "--scheme", "w8a16").startswith("model is within the model itself.")
    assert not (folder / "out").exists()
    assert command("model", "out").exit_code == 2


def test_an_interrupted_run_says_how_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Shown, "shard", interrupted)
        assert refused("model", "out", "--scheme", "w8a16") == (
            "interrupted. What is written to out is not lost: the same command goes on from there."
        )
    assert command("model", "out", "--scheme", "w8a16").output.count("was there already, verified") == 1


def test_a_bar_on_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = folder / "lines.txt"
    lines.write_text("a\n")
    monkeypatch.setattr(
        calibration,
        "observe",
        lambda _, names, *__: calibration.Calibration(dict.fromkeys(names, (-1, 1)), 1, 1, 0),
    )
    screen = io.StringIO()
    watcher = Shown(Console(file=screen, force_terminal=True, width=100, highlight=False))
    try:
        quantize(folder / "model", folder / "out", "w8a8", calibrate=lines, watcher=watcher)
    finally:
        watcher.close()
    shown = screen.getvalue()
    assert "run 1 prompt through the model in vLLM" in shown
    assert "model-00002-of-00002.safetensors" in shown and "━" in shown
    assert shown.endswith("\x1b[2K"), "the bar is taken away"
