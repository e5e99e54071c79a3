"""Engine cores that join a front end: whoever started them, and where, they show what they have when they say hello.

A front end whose engine core lacks what it has refuses it, and an engine core the front end, before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ascend_overlay import api
from ascend_overlay.overlays.roles import children

_KEY = "ascend_overlay"
"""In the messages of vLLM's handshake, whose readers pass over what they do not know."""
_FRONT_END, _ENGINE = "the front end", "the engine core that joins it"


def engine(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Say hello with what this engine core has, and see what the front end has."""
    if api.owed() is None:
        return wrapped(*args, **kwargs)
    socket = args[0] if args else kwargs["handshake_socket"]
    send, receive = socket.send, socket.recv

    def says(data: Any, *more: Any, **options: Any) -> Any:
        return send(_with_ours(data), *more, **options)

    def hears(*more: Any, **options: Any) -> Any:
        data = receive(*more, **options)
        _see(data, f"{_FRONT_END} at {_address(socket)}", _ENGINE)
        return data

    socket.send, socket.recv = says, hears
    try:
        return wrapped(*args, **kwargs)
    finally:
        socket.send, socket.recv = send, receive


def front_end(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """See what each engine core has that says hello, and answer with what this process has."""
    if api.owed() is None:
        return wrapped(*args, **kwargs)
    socket = args[0] if args else kwargs["handshake_socket"]
    send, receive = socket.send_multipart, socket.recv_multipart

    def says(parts: Any, *more: Any, **options: Any) -> Any:
        *before, last = parts
        return send((*before, _with_ours(last)), *more, **options)

    def hears(*more: Any, **options: Any) -> Any:
        parts = receive(*more, **options)
        rank = int.from_bytes(parts[0], "little")
        _see(parts[-1], f"the engine core of data parallel rank {rank}", f"{_FRONT_END} that it joins")
        return parts

    socket.send_multipart, socket.recv_multipart = says, hears
    try:
        return children.waiting(wrapped, instance, args, kwargs)
    finally:
        socket.send_multipart, socket.recv_multipart = send, receive


def _with_ours(data: Any) -> Any:
    import msgspec

    message = msgspec.msgpack.decode(data)
    return msgspec.msgpack.encode({**message, _KEY: [api.shown(), api.surroundings()]})


def _see(data: Any, whose: str, here: str) -> None:
    """Complain of the sender of a message that lacks what this process has."""
    import msgspec

    message = msgspec.msgpack.decode(data)
    if message.get("status") == "READY":
        # It has said so before.
        return
    has, around = message.get(_KEY) or ({"overlays": None, "out": {}}, {})
    if (owed := api.owed()) is not None:
        api.see_peer(owed, has, around, whose=whose, here=here)


def _address(socket: Any) -> str:
    import zmq

    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
