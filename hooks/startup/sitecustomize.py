"""Run by every Python process that has this folder first on PYTHONPATH: `ascend-overlay run` and children of enable().

It arms the overlays and then runs the sitecustomize that this one hides, if there is one.
"""

import os
import sys


def _run_hidden_sitecustomize() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    folders = [os.path.abspath(folder or os.curdir) for folder in sys.path]
    # Behind this one only: the hidden one may be another environment's copy of this file, which would look for us.
    hidden = folders[folders.index(here) + 1 :] if here in folders else folders
    for folder in hidden:
        for path in (os.path.join(folder, "sitecustomize.py"), os.path.join(folder, "sitecustomize", "__init__.py")):
            if folder != here and os.path.isfile(path):
                with open(path, "rb") as file:
                    code = compile(file.read(), path, "exec")
                exec(code, {"__name__": "sitecustomize", "__file__": path})
                return


def _asks(variable: str) -> bool:
    return os.environ.get(variable, "0").lower() not in ("", "0", "false", "no", "off")


if _asks("ASCEND_OVERLAY") or _asks("ASCEND_OVERLAY_NPU"):
    try:
        from ascend_overlay.hooks.activation import arm_asked_for
    except ImportError as error:
        # An interpreter of another environment inherited PYTHONPATH: it has no overlays to apply.
        if error.name is None or not error.name.startswith("ascend_overlay"):
            raise
    else:
        arm_asked_for()
_run_hidden_sitecustomize()
