"""Small packages that patch a small vLLM."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ascend_overlay.releases import Release
from ascend_overlay.scans.judging import Verdict, judge
from ascend_overlay.scans.noting import Reading
from ascend_overlay.scans.package import opened
from ascend_overlay.scans.reading import read
from ascend_overlay.scans.releases import Judged

Files = dict[str, str]
VLLM: Files = {
    "__init__": "from vllm.engine import Engine\n",
    "engine": """
        from vllm.scheduler import Scheduler, pick
        class Engine:
            def step(self, count, *, last=False):
                return pick(count)
            async def stop(self): ...
            @property
            def size(self): return 1
            @staticmethod
            def make(x): return x
        """,
    "scheduler": """
        LIMIT = 8
        TABLE = {"one": 1}
        NAMES = ["one"]
        class Scheduler:
            queue = None
            def schedule(self, requests): return requests
            def add(self, request): ...
        def pick(count): return count
        scheduler = Scheduler()
        """,
    "late": "def use():\n    from vllm.scheduler import pick\n    return pick(1)\n",
    "layers/__init__": "from vllm.layers.norm import RMSNorm\n",
    "layers/custom_op": """
        class CustomOp:
            @classmethod
            def register_oot(cls, op=None, name=None): ...
        class PluggableLayer: ...
        """,
    "layers/norm": (
        "from vllm.layers.custom_op import CustomOp\nclass RMSNorm(CustomOp):\n    def forward(self, x): ...\n"
    ),
    "models": "class ModelRegistry:\n    @classmethod\n    def register_model(cls, name, model): ...\n",
    "enums": "import enum\nclass Status(enum.Enum):\n    NEW = 1\n",
}


def write(folder: Path, files: Files) -> Path:
    for name, text in files.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


@pytest.fixture
def vllm(tmp_path: Path) -> Callable[..., Release]:
    """Make a release of the small vLLM, with some of its modules changed."""

    def make(version: str = "1.0", **changed: str) -> Release:
        files = VLLM | {name.replace("__", "/", 1) if "/" in name else name: text for name, text in changed.items()}
        return Release(version, version, write(tmp_path / version / "vllm", files))

    return make


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """Write the package "acme"; a text alone is its module "patch"."""

    def make(given: str | Files) -> Path:
        files = {"patch": given} if isinstance(given, str) else given
        return write(tmp_path / "acme", {"__init__": "", **files})

    return make


@pytest.fixture
def reading(package: Callable[..., Path]) -> Callable[..., Reading]:
    """Read what a package patches."""
    return lambda given: read(opened(str(package(given))))


@pytest.fixture
def verdicts(package: Callable[..., Path], vllm: Callable[..., Release]) -> Callable[..., list[Verdict]]:
    """Judge what a package patches, against some releases; default: one."""

    def judged(given: str | Files, *releases: Release) -> list[Verdict]:
        source = opened(str(package(given)))
        return judge(source, read(source), [Judged(each) for each in releases or (vllm(),)])

    return judged
