"""`ascend-overlay autoload`: a .pth file that arms the overlays in every Python process of an environment.

The file does nothing unless the environment variable ASCEND_OVERLAY asks for overlays, or ASCEND_OVERLAY_NPU for a
software NPU.
"""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from ascend_overlay.errors import ActivationError
from ascend_overlay.settings import requested

FILE_NAME = "ascend_overlay_autoload.pth"
# One line, run by site.py at every start of Python: the test comes first, so that it costs nothing when not asked for.
_LINE = (
    "import os; any(os.environ.get(name, '0').lower() not in ('', '0', 'false', 'no', 'off') "
    "for name in ('ASCEND_OVERLAY', 'ASCEND_OVERLAY_NPU')) "
    "and __import__('ascend_overlay.hooks.activation', fromlist=['arm']).arm_asked_for()\n"
)


def path() -> Path:
    """Return where the .pth file of the current environment goes."""
    return Path(sysconfig.get_path("purelib")) / FILE_NAME


def status() -> str:
    """Return one sentence on whether autoload is on."""
    asked = os.environ.get("ASCEND_OVERLAY")
    variable = f"ASCEND_OVERLAY is {asked!r}" if asked else "ASCEND_OVERLAY is not set"
    if not requested():
        variable += ", so it does nothing yet"
    if path().exists():
        return f"autoload is on ({path()}); {variable}."
    return f"autoload is off ({path()} does not exist)."


def on() -> Path:
    """Write the .pth file.

    Raises:
        ActivationError: the folder cannot be written to.
    """
    target = path()
    try:
        target.write_text(_LINE, encoding="utf-8")
    except OSError as error:
        raise ActivationError(
            f"autoload needs to write {target}, which is not possible ({error.strerror}). Use `ascend-overlay run "
            f"COMMAND`, which needs no file, or a virtual environment of your own."
        ) from error
    return target


def off() -> bool:
    """Remove the .pth file; return whether there was one.

    Raises:
        ActivationError: it cannot be removed.
    """
    target = path()
    if not target.exists():
        return False
    try:
        target.unlink()
    except OSError as error:
        raise ActivationError(f"{target} cannot be removed ({error.strerror}); remove it as its owner.") from error
    return True
