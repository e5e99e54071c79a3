"""`ascend-overlay list --vllm RELEASE`: what would be enabled beside another vLLM than the installed one."""

from __future__ import annotations

from dataclasses import replace

from packaging.version import InvalidVersion, Version

from ascend_overlay import api, releases, versions
from ascend_overlay.errors import ConfigError
from ascend_overlay.ledgers import Ledger
from ascend_overlay.settings import Settings


def judged(release: str, settings: Settings) -> Ledger:
    """Return what `settings` would enable beside vLLM `release`, by ranges, vetoes, conditions and conflicts.

    Raises:
        ConfigError: `release` is more than one.
        OverlayError: it is none, or none that can be had; or as enable() would raise it there.
    """
    version = _version(release)
    with versions.assumed("vllm", version):
        ledger = api.judge(settings)
    beside = [f"{name} {found}" for name in ("torch", "torch_npu") if (found := versions.installed(name)) is not None]
    neighbours = f", beside {' and '.join(beside)}" if beside else ""
    text = (
        f"judged as if vllm {version} were installed{neighbours}: ranges and "
        f"conditions; not locks, nor whether its modules and classes are what the patches expect"
    )
    return replace(ledger, notes=(*ledger.notes, ("", text)))


def _version(release: str) -> str:
    try:
        # For a number nothing is fetched.
        return str(Version(release))
    except InvalidVersion:
        found = releases.find([release])
    if len(found) != 1 or not found[0].version:
        which = ", ".join(each.version or "one without a number" for each in found)
        raise ConfigError(f"--vllm {release!r} is {which}; write the number of one release, such as 0.33.0.")
    return found[0].version
