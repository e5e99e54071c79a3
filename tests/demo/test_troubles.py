"""Why a run of vLLM failed, as its log tells: the error that it began with, not those that tell of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascend_overlay.commands import troubles

TRACE = 'Traceback (most recent call last):\n  File "worker.py", line 1, in load\n    raise ValueError("no weights")\n'
WORKER = "(Worker pid=7) ERROR 11-30 22:16:33 [multiproc_executor.py:953] "
CORE = "(EngineCore pid=6) ERROR 11-30 22:16:34 [core.py:1200] "
SECOND = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}\n"
)


def logged(prefix: str, text: str) -> str:
    return "".join(f"{prefix}{line}\n" for line in text.splitlines())


LOGS: dict[str, tuple[str, str | None]] = {
    "nothing": ("INFO 11-30 22:16:33 [api.py:1] all is well\n", None),
    "no log": ("", None),
    "the program itself": (f"{TRACE}ValueError: no weights\n", "ValueError: no weights"),
    "a worker, and who waits for it": (
        logged(WORKER, f"{TRACE}ValueError: no weights") + logged(CORE, TRACE + SECOND) + TRACE + SECOND,
        "ValueError: no weights",
    ),
    "the engine core, printed": (f"(EngineCore pid=6) {TRACE}KeyError: 'a'\n{TRACE}{SECOND}", "KeyError: 'a'"),
    "one cause after another": (
        f"{TRACE}KeyError: 'a'\n\nThe above exception was ...:\n\n{TRACE}pkg.TargetError: it is gone\n{TRACE}{SECOND}",
        "pkg.TargetError: it is gone",
    ),
    "what was got over": (
        f"{TRACE}OSError: no cache\nINFO: going on\n{TRACE}ValueError: no weights\n",
        "ValueError: no weights",
    ),
    "second hand alone": (TRACE + SECOND, SECOND.strip()),
    "no traceback": ("ValueError: this is how it would look\n", None),
}


@pytest.mark.parametrize(("text", "cause"), LOGS.values(), ids=LOGS)
def test_root_cause(text: str, cause: str | None, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    if text:
        log.write_text(text)
    assert troubles.root_cause(log) == cause
