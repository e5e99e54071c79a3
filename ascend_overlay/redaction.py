"""Secrets kept out of what is written down: command lines, addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "***"
SECRET = re.compile(r"TOKEN|SECRET|PASSW|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
"""Names of variables whose values are nobody's business."""
IN_ADDRESS = re.compile(r"(?<=://)[^/\s@]+(?=@)")
"""The user and the password in an address."""

_OPTION = re.compile(
    r"--?([\w.-]*[-_.])?(api_?keys?|keys?|tokens?|secrets?|passw\w*|passphrase|credentials?|auth|authorization)",
    re.IGNORECASE,
)
_IN_JSON = re.compile(
    r"""(?P<name>["'][\w.-]*(?:api[-_]?key|token|secret|passw\w*|credential|authorization)["']\s*:\s*)"""
    r"""(?P<value>"[^"]*"|'[^']*')""",
    re.IGNORECASE,
)
_VALUE = re.compile(r"(?<!\w)(?:sk-|hf_|ghp_|glpat-|xox[a-z]-)[\w-]{8,}")
_COUNTS = re.compile(
    r"--?([\w.-]*[-_.])?(max|min|num|batched|new|speculative|skip|return)[-_.]([\w.-]*[-_.])?tokens?\Z"
)
"""Options about tokens of a text."""
_VARIABLE = re.compile(r"[A-Za-z_]\w*\Z")


def arguments(argv: Sequence[str]) -> list[str]:
    """Return a command line without the values of options that take a secret, and without passwords in addresses.

    An option may take several values, as vLLM's `--api-key` does; all up to the next option are left out.
    """
    shown: list[str] = []
    secret = False
    for argument in argv:
        name, equals, _ = argument.partition("=")
        if argument.startswith("-"):
            secret = _is_secret(name)
            shown.append(f"{name}={HIDDEN}" if secret and equals else text(argument))
        elif equals and _VARIABLE.match(name) and SECRET.search(name):
            # A variable, as `env HF_TOKEN=... vllm serve` is given one.
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(HIDDEN if secret else text(argument))
    return shown


def text(argument: str) -> str:
    """Return a text without passwords in addresses, secrets in JSON, and what is known to look like a key."""
    argument = _IN_JSON.sub(lambda match: f'{match["name"]}"{HIDDEN}"', argument)
    return _VALUE.sub(HIDDEN, IN_ADDRESS.sub(HIDDEN, argument))


def _is_secret(option: str) -> bool:
    return bool(_OPTION.fullmatch(option)) and not _COUNTS.match(option)
