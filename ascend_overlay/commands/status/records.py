"""Which process a ledger is of: one that runs, one that has ended, one of another machine."""

from __future__ import annotations

import os
from datetime import datetime

from ascend_overlay.commands.status import live
from ascend_overlay.ledgers import Ledger

RUNS, ENDED, ELSEWHERE = "runs", "ended", "on another machine"
_SLACK = 2.0
"""Seconds by which the clocks that a ledger and /proc go by may differ."""


def life(ledger: Ledger) -> str:
    """Return whether the process of a ledger runs: RUNS, ENDED or ELSEWHERE."""
    if ledger.process.get("host") != os.uname().nodename:
        return ELSEWHERE
    return RUNS if is_of(ledger, live.started(ledger.process["pid"])) else ENDED


def is_of(ledger: Ledger, process_started: float | None) -> bool:
    """Tell whether a ledger can be of a process that started at that time: a number is used again and again."""
    if process_started is None:
        return False
    try:
        written = datetime.strptime(str(ledger.process["started"]), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return False
    # The ledger's clock begins when the overlays come, which is later.
    return process_started <= written + _SLACK


def record_of(process: live.Live, ledgers: list[Ledger]) -> Ledger | None:
    """Return the ledger of a process of this machine, the latest where there are several; None where there is none."""
    host = os.uname().nodename
    found = [
        ledger
        for ledger in ledgers
        if (ledger.process["pid"], ledger.process.get("host")) == (process.pid, host) and is_of(ledger, process.started)
    ]
    return found[-1] if found else None
