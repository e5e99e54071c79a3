"""`ascend-overlay autoload`: a .pth file that arms the overlays in every Python process of an environment.

The file does nothing unless the environment variable ASCEND_OVERLAY asks for overlays, or ASCEND_OVERLAY_NPU for a
software NPU.
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
from pathlib import Path

from ascend_overlay.errors import ActivationError
from ascend_overlay.settings import requested

FILE_NAME = "ascend_overlay_autoload.pth"
_WAY_IN = "ascend_overlay.hooks.activation"
# One line, run by site.py at every start of Python: the test comes first, so that it costs nothing when not asked for.
# The file stays where the library was uninstalled, and every start of Python would complain of it.
_LINE = (
    "import os; any(os.environ.get(name, '0').lower() not in ('', '0', 'false', 'no', 'off') "
    "for name in ('ASCEND_OVERLAY', 'ASCEND_OVERLAY_NPU')) "
    "and __import__('importlib.util').util.find_spec('ascend_overlay') "
    f"and __import__('{_WAY_IN}', fromlist=['arm']).arm_asked_for()\n"
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
    if not os.path.lexists(path()):
        return f"autoload is off ({path()} does not exist)."
    if not _is_ours(path()):
        return f"autoload is off: {path()} is not the file that `ascend-overlay autoload on` writes; see whose it is."
    if path().read_text(encoding="utf-8") != _LINE:
        return f"autoload is on ({path()}), by another version; `ascend-overlay autoload on` renews it. {variable}."
    return f"autoload is on ({path()}); {variable}."


def on() -> Path:
    """Write the .pth file, as a whole: a Python that starts meanwhile reads all of it or none.

    Raises:
        ActivationError: the folder cannot be written to, or a file of that name is somebody else's.
    """
    target = path()
    _see_whose(target)
    try:
        handle, scratch = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=target.parent)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(_LINE)
            # Whoever runs a Python of this environment reads it.
            os.chmod(scratch, 0o644)
            os.replace(scratch, target)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise ActivationError(
            f"autoload needs to write {target}, which is not possible ({error.strerror}). Use `ascend-overlay run "
            f"COMMAND`, which needs no file, or a virtual environment of your own."
        ) from error
    return target


def off() -> bool:
    """Remove the .pth file; return whether there was one.

    Raises:
        ActivationError: it cannot be removed, or is somebody else's.
    """
    target = path()
    if not os.path.lexists(target):
        return False
    _see_whose(target)
    try:
        target.unlink()
    except OSError as error:
        raise ActivationError(f"{target} cannot be removed ({error.strerror}); remove it as its owner.") from error
    return True


def _is_ours(target: Path) -> bool:
    try:
        return not target.is_symlink() and _WAY_IN in target.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _see_whose(target: Path) -> None:
    if os.path.lexists(target) and not _is_ours(target):
        raise ActivationError(
            f"{target} is not a file that `ascend-overlay autoload on` wrote, and is left as it is; see whose it is, "
            f"and remove it by hand."
        )
