"""Run in a process of its own: prints as JSON what became of each patch of the overlays on the installed vLLM.

Every target's module is imported, once in each role that a process of vLLM has; the best state counts.
"""

from __future__ import annotations

import contextlib
import json

from ascend_overlay import api, process
from ascend_overlay.testing import assert_effective, enabled


def main() -> None:
    """Print a list of overlay, kind, target, state, cause and reason of each patch."""
    found: dict[tuple[str, str, str], tuple[str, str | None, str]] = {}
    for role in process.ROLES:
        with enabled(role=role):
            for name in api.enabled_names():
                # What it complains of is in the ledger, with what it lets pass.
                with contextlib.suppress(AssertionError):
                    assert_effective(name)
            for entry in api.ledger():
                key = (entry.overlay, entry.kind, entry.target)
                if found.get(key, ("",))[0] != "applied":
                    found[key] = (entry.state, entry.cause, entry.reason)
    print(json.dumps([[*key, *value] for key, value in found.items()]))


if __name__ == "__main__":
    main()
