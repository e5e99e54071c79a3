"""The options of commands for an NPU, software or not."""

from __future__ import annotations

import os
from dataclasses import replace

from ascend_overlay import availability, versions
from ascend_overlay.errors import ConfigError, usage
from ascend_overlay.npu.software import build, options
from ascend_overlay.npu.software.options import Options
from ascend_overlay.overlays.platform import hindrances

_PATH = "LD_LIBRARY_PATH"


def variables(npu: str | None, devices: str | None, memory: str | None, report: str | None) -> dict[str, str]:
    """Return the variables of a command that has what is asked for, built if need be; none where nothing is.

    An option that is None leaves what the environment says.

    Raises:
        ConfigError: an option means nothing, or there can be no software NPU here.
    """
    asked = {} if npu is None else {options.VARIABLE: options.checked(npu, whose="--npu")}
    given = Options.from_env({**os.environ, **asked})
    if given is None:
        _refuse_alone({"--npu-devices": devices, "--npu-memory": memory, "--npu-report": report})
        return {}
    if devices is not None:
        given = replace(given, devices=options.devices(devices, whose="--npu-devices"))
    if memory is not None:
        given = replace(given, memory=options.memory(memory, whose="--npu-memory"))
    if report is not None:
        given = replace(given, report=report)
    # A process that no way in reaches finds the libraries by this, and fails by name, not for want of them.
    path = os.pathsep.join(filter(None, [str(build.built().libraries), os.environ.get(_PATH)]))
    return {**given.to_env(), _PATH: path}


def see(npu: str | None) -> None:
    """See that the NPU that is asked for can be there: "card", "software", or None.

    Raises:
        ConfigError: it cannot; the sentence says what to do.
    """
    if npu == "software":
        variables(npu, None, None, None)
    elif npu is not None and not availability.torch_npu_installed():
        series = ".".join((versions.installed("torch") or "RELEASE").split(".")[:2])
        raise ConfigError(f"torch_npu is not installed: pip install --no-deps 'torch_npu=={series}.*'.")
    elif npu is not None and (reason := hindrances.installation()):
        raise ConfigError(
            f"with this library, vLLM does not run on a card here: {reason}. --npu software needs no card."
        )


def _refuse_alone(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is not None:
            raise usage(ConfigError(f"{name} is an option of the software NPU: add --npu software."))
