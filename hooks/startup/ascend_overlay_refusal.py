"""For an interpreter that is told to have overlays and has no ascend_overlay: it imports nothing of that.

Executed as text, also in processes that do not have this file.
"""

import os
import sys


class Refusal:
    """Stands before vLLM: to look for vLLM is allowed, to load it is not."""

    looking = False
    loader = None
    word = None

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
        complain(self.word)
        create = getattr(self.loader, "create_module", None)
        return None if create is None else create(spec)

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)  # type: ignore[union-attr]


def complain(word=None) -> None:  # type: ignore[no-untyped-def]
    """Say what is missing: as an error, or where the environment is not strict as a warning.

    `word` is the connection by which the process that started this one is told.
    """
    text = (
        f"ASCEND_OVERLAY asks for overlays, and the interpreter that imports vLLM here, {sys.executable}, has no "
        f"ascend_overlay: vLLM would run without them. Install ascend_overlay in its environment, start a command "
        f"of the environment that has it, or unset ASCEND_OVERLAY."
    )
    if os.environ.get("ASCEND_OVERLAY_STRICT", "1").lower() not in ("0", "false", "no", "off"):
        if word is not None:
            word.send_bytes(text.encode())
        raise RuntimeError(text)
    print(f"WARNING: {text}", file=sys.stderr)


def refuse(word=None) -> None:  # type: ignore[no-untyped-def]
    """Refuse vLLM, now where it is loaded already."""
    if "vllm" in sys.modules:
        complain(word)
    else:
        refusal = Refusal()
        refusal.word = word
        sys.meta_path.insert(0, refusal)
