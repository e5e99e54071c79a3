"""`ascend-overlay list --vllm RELEASE`: what would be enabled beside another vLLM than the installed one."""

from __future__ import annotations

from dataclasses import replace

from packaging.version import InvalidVersion, Version

from ascend_overlay import api, versions
from ascend_overlay.errors import ConfigError
from ascend_overlay.ledgers import Ledger
from ascend_overlay.settings import Settings


def judged(release: str, settings: Settings) -> Ledger:
    """Return what `settings` would enable beside vLLM `release`, by ranges, vetoes, conditions and conflicts.

    Raises:
        ConfigError: `release` is no release.
        OverlayError: as enable() would raise it there.
    """
    try:
        version = str(Version(release))
    except InvalidVersion:
        raise ConfigError(
            f"--vllm is {release!r}, which is no release of vLLM; write its number, such as 0.33.0."
        ) from None
    with versions.assumed("vllm", version):
        ledger = api.judge(settings)
    beside = [f"{name} {found}" for name in ("torch", "torch_npu") if (found := versions.installed(name)) is not None]
    neighbours = f", beside {' and '.join(beside)}" if beside else ""
    text = (
        f"judged as if vllm {version} were installed{neighbours}: ranges and "
        f"conditions, and not whether its modules and classes are what the patches expect"
    )
    return replace(ledger, notes=(*ledger.notes, ("", text)))
