"""The processes that are started from here: what they are given, and what they are asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from ascend_overlay import api
from ascend_overlay.errors import ProcessError
from ascend_overlay.hooks import activation
from ascend_overlay.hooks.carried import Carried

# A child of vLLM's logger, so that it is shown where and how vLLM's own messages are.
_logger = logging.getLogger("vllm.ascend_overlay")
_OF_VLLM = ("EngineCore", "VllmWorker", "ApiServer")
"""What the names of vLLM's processes begin with."""
_REFUSED = "vLLM's process "
_said: set[str] = set()
_started: dict[str, tuple[Connection, Connection]] = {}
"""Processes of vLLM that were started here, by name: where they tell why they are refused, both ends of it."""

# Executed in the worker, which need not have an ascend_overlay to import it from.
_ANSWER = """
def answer(worker):
    import os, sys
    around = {"interpreter": sys.executable}
    torch, ours = "TORCH_DEVICE_BACKEND_AUTOLOAD", "ASCEND_OVERLAY"
    for name in ("PYTHONPATH", "VLLM_PLUGINS", torch, ours, f"{ours}_PLUGINS"):
        if name in os.environ:
            around[name] = os.environ[name]
    has = {"pid": os.getpid(), "role": "worker", "overlays": None, "out": {}}
    if "ascend_overlay.api" in sys.modules:
        has = {**sys.modules["ascend_overlay.api"].shown(), "role": "worker"}
    return has, around
"""


def prepared(
    wrapped: Callable[..., dict[str, Any]], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Add the overlays to what a process of multiprocessing is sent first."""
    data = wrapped(*args, **kwargs)
    name = str(data.get("name", ""))
    if (owed := api.owed()) is not None:
        word = None
        if name.startswith(_OF_VLLM):
            # The end that is sent has to stay open until it is; who is started again under a name has another.
            ours, word = Pipe(duplex=False)
            _started[name] = ours, word
        data["ascend_overlay"] = Carried(owed, search=data.get("sys_path"), word=word)
    _say_what_stays_here(name)
    return data


def waiting(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Have the error of who waits for a process say why it was refused, and not only that it ended."""
    try:
        return wrapped(*args, **kwargs)
    except Exception as error:
        if (text := "; ".join(_told())) == "":
            raise
        # Whoever started this process waits for it, too.
        activation.tell(text)
        raise ProcessError(text) from error


def _told() -> Iterator[str]:
    """Yield what processes that were started here have told, each with the name of the process."""
    for name, (ours, _) in _started.items():
        while ours.poll():
            text = ours.recv_bytes().decode("utf-8", "replace")
            yield text if text.startswith(_REFUSED) else f"{_REFUSED}{name}: {text}"


def inspecting(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Send the overlays with the function that is to run in a subprocess."""
    owed = api.owed()
    if owed is None or not args:
        return wrapped(*args, **kwargs)
    return wrapped(Carried(owed, args[0]), *args[1:], **kwargs)


def executor(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Ask the workers of a new executor what they have."""
    result = wrapped(*args, **kwargs)
    owed = api.owed()
    # A follower of several nodes has nobody to ask: its leader does.
    if owed is not None and getattr(instance, "rpc_broadcast_mq", instance) is not None:
        for has, around in instance.collective_rpc(_question()):
            api.see_child(owed, has, around)
    return result


def _question() -> Callable[[Any], tuple[dict[str, Any], dict[str, str]]]:
    # What is of __main__ is pickled as it is, and not by the name of a module.
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(_ANSWER, names)
    answer: Callable[[Any], tuple[dict[str, Any], dict[str, str]]] = names["answer"]
    return answer


def _say_what_stays_here(name: str) -> None:
    """Say once which overlays a process of vLLM cannot have, because they are objects of this one."""
    if not name.startswith(_OF_VLLM):
        return
    for overlay in api.not_for_children():
        if overlay not in _said:
            _said.add(overlay)
            _logger.warning(
                "The process %s, which is started here, does not have the overlay %r: it is an object of this process. "
                "Let a plugin contribute it, and name that plugin's module in load= or ASCEND_OVERLAY_LOAD.",
                name,
                overlay,
            )
