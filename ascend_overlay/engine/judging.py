"""What enable() would decide, without touching anything: for another release of vLLM as well as for this one."""

from __future__ import annotations

import contextlib

from ascend_overlay import versions
from ascend_overlay.engine import plan
from ascend_overlay.engine.admission import Admission
from ascend_overlay.engine.catalogue import Catalogue
from ascend_overlay.engine.complaints import Complaints
from ascend_overlay.engine.drift import Drift
from ascend_overlay.engine.journal import Journal
from ascend_overlay.engine.patcher import Patcher
from ascend_overlay.engine.plugins import Plugins
from ascend_overlay.engine.state import Enabling, State
from ascend_overlay.errors import VersionError
from ascend_overlay.ledgers import Ledger
from ascend_overlay.settings import Settings


def judged(
    catalogue: Catalogue, plugins: Plugins, patcher: Patcher, complaints: Complaints, settings: Settings
) -> Ledger:
    """Return a ledger of what `settings` ask for: patches that would wait for their targets, and those left out.

    Args:
        catalogue: the overlays that there are, with the plugins loaded.
        plugins: those that contribute them.
        patcher: that of this process, which nothing is given to.
        complaints: what becomes of errors.
        settings: what is asked for.

    Raises:
        OverlayError: as enable() would raise it.
    """
    # A state of its own: what this process has enabled stays out of it.
    state = State(past=catalogue.plugin_entries())
    journal = Journal(state, lambda among: None)
    for _, error in plugins.problems:
        complaints.complain(error)
    names = plan.select(catalogue.contributed, settings, absent=plugins.absent())
    ranks = plan.ranks(catalogue.contributed)
    units = [catalogue.unit(name, ranks[name]) for name in names]
    if problem := plan.missing_vllm(units):
        complaints.complain(VersionError(problem))
    state.units.update({unit.name: unit for unit in units})
    drift = Drift(plugins, complaints, journal)
    admission = Admission(state, patcher, complaints, journal, drift)
    # A lock is compared with the source that is here, which is not that of a release which is assumed.
    with contextlib.nullcontext() if versions.is_assumed("vllm") else drift.looking(settings):
        for unit in units:
            admission.admit(unit, settings)
    admission.settle_conflicts(Enabling(names=names), settings)
    return journal.snapshot()
