"""Actors and tasks of Ray that import vLLM have the overlays of the program that starts them, whenever it enables them.

`pytest -m grid tests/e2e/test_ray.py`, where Ray is installed; it is no part of the tests. vLLM's own executor for Ray
is in test_npu_cards.py.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from e2e_kit import environment

pytestmark = [
    pytest.mark.grid,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed; it is no part of the tests"
    ),
]

HERE = Path(__file__).parent


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
