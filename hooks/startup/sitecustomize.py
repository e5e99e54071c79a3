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
                names = {"__name__": "sitecustomize", "__file__": path}
                if path.endswith("__init__.py") and "sitecustomize" in sys.modules:
                    # What it imports from beside it is looked for where it is.
                    names["__package__"] = "sitecustomize"
                    sys.modules["sitecustomize"].__path__ = [os.path.dirname(path)]
                exec(code, names)
                return


def _asks(variable: str) -> bool:
    return os.environ.get(variable, "0").lower() not in ("", "0", "false", "no", "off")


class _Refusal:
    """Stands before vLLM in an interpreter that has no overlays: to look for vLLM is allowed, to load it is not."""

    looking = False
    loader = None

    def find_spec(self, fullname, path=None, target=None):  # type: ignore[no-untyped-def]
        if fullname != "vllm" or self.looking:
            return None
        self.looking = True
        try:
            specs = (other.find_spec(fullname, path, target) for other in list(sys.meta_path) if other is not self)
            spec = next((spec for spec in specs if spec is not None), None)
        finally:
            self.looking = False
        if spec is not None:
            self.loader, spec.loader = spec.loader, self  # type: ignore[assignment]
        return spec

    def __getattr__(self, name):  # type: ignore[no-untyped-def]
        return getattr(object.__getattribute__(self, "loader"), name)

    def create_module(self, spec):  # type: ignore[no-untyped-def]
        text = (
            f"ASCEND_OVERLAY asks for overlays, and the interpreter that imports vLLM here, {sys.executable}, has no "
            f"ascend_overlay: vLLM would run without them. Install ascend_overlay in its environment, start a command "
            f"of the environment that has it, or unset ASCEND_OVERLAY."
        )
        if os.environ.get("ASCEND_OVERLAY_STRICT", "1").lower() in ("0", "false", "no", "off"):
            print(f"WARNING: {text}", file=sys.stderr)
            create = getattr(self.loader, "create_module", None)
            return None if create is None else create(spec)
        raise RuntimeError(text)

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)  # type: ignore[union-attr]


if _asks("ASCEND_OVERLAY") or _asks("ASCEND_OVERLAY_NPU"):
    try:
        from ascend_overlay.hooks.activation import arm_asked_for
    except ImportError as error:
        # An interpreter of another environment inherited PYTHONPATH: it has no overlays to apply.
        if error.name is None or not error.name.startswith("ascend_overlay"):
            raise
        if _asks("ASCEND_OVERLAY"):
            sys.meta_path.insert(0, _Refusal())
    else:
        arm_asked_for()
_run_hidden_sitecustomize()
