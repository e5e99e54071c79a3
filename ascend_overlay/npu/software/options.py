"""What was asked for: whether there is a software NPU, how many devices, how much memory, and where to report."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ascend_overlay.errors import ConfigError, did_you_mean, usage
from ascend_overlay.settings import FALSE

VARIABLE = "ASCEND_OVERLAY_NPU"
DEVICES = f"{VARIABLE}_DEVICES"
MEMORY = f"{VARIABLE}_MEMORY"
REPORT = f"{VARIABLE}_REPORT"

SOFTWARE = "software"
MOST_DEVICES = 64
"""As many as the runtime has room for."""

_LEAST_MEMORY = 2 << 20
"""Torch_npu's allocator takes memory in pieces of this size."""

_UNITS = {"": 1, **{f"{letter}{b}": 1024**n for n, letter in enumerate("KMGT", 1) for b in ("", "iB")}}


@dataclass(frozen=True)
class Options:
    """A software NPU.

    Attributes:
        devices: how many devices a process sees.
        memory: bytes of each.
        report: folder that gets a file of each process; None: nobody counts.
    """

    devices: int = 1
    memory: int = 8 << 30
    report: str | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Options | None:
        """Read what the environment asks for; None where it asks for no software NPU.

        Raises:
            ConfigError: a variable has a value that means nothing.
        """
        env = os.environ if environ is None else environ
        asked = env.get(VARIABLE, "")
        if asked.lower() in FALSE:
            return None
        checked(asked, whose=VARIABLE)
        return cls(
            devices=devices(env[DEVICES], whose=DEVICES) if env.get(DEVICES) else cls.devices,
            memory=memory(env[MEMORY], whose=MEMORY) if env.get(MEMORY) else cls.memory,
            report=env.get(REPORT) or None,
        )

    def to_env(self) -> dict[str, str]:
        """Return the variables that make `from_env` give these options again; the runtime reads them, too."""
        env = {VARIABLE: SOFTWARE, DEVICES: str(self.devices), MEMORY: str(self.memory)}
        if self.report:
            env[REPORT] = os.path.abspath(self.report)
        return env


def checked(kind: str, *, whose: str) -> str:
    """Return `kind`, which is "software"; `whose` is named in the error.

    Raises:
        ConfigError: it is anything else.
    """
    if kind.lower() == SOFTWARE:
        return SOFTWARE
    hint = did_you_mean(kind.lower(), [SOFTWARE])
    raise usage(ConfigError(f"{whose} is {kind!r}; it takes {SOFTWARE!r}.{hint} A card needs no such option."))


def devices(text: str, *, whose: str) -> int:
    """Parse a number of devices.

    Raises:
        ConfigError: it is no number from 1 to MOST_DEVICES.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MOST_DEVICES:
        raise usage(ConfigError(f"{whose} is {text!r}; it takes a number of devices from 1 to {MOST_DEVICES}."))
    return int(text)


def memory(text: str, *, whose: str) -> int:
    """Parse a size such as 8GiB, 512M or a number of bytes.

    Raises:
        ConfigError: it is no such size, or less than torch_npu can work with.
    """
    match = re.fullmatch(r"(\d+)\s*([KMGT]?(?:iB)?)", text.strip())
    size = int(match[1]) * _UNITS.get(match[2], 0) if match else 0
    if match is None or not size:
        wrong = f"{whose} is {text!r}; it takes a size of memory, such as 8GiB, 512MiB or a number of bytes."
        raise usage(ConfigError(wrong))
    if size < _LEAST_MEMORY:
        wrong = f"{whose} is {text!r}, which is less than torch_npu takes at a time: give 2MiB or more."
        raise usage(ConfigError(wrong))
    return size
