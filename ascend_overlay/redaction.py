"""Secrets kept out of what is written down: command lines, addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence

HIDDEN = "***"
SECRET = re.compile(r"TOKEN|SECRET|PASSW|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
"""Names of variables whose values are nobody's business."""
IN_ADDRESS = re.compile(r"(?<=://)[^\s/'\"]+(?=@)")
"""The user and the password in an address."""

_NAMES = (
    r"(?:api[-_.]?k(?:ey?s?)?|(?:access|private|secret|auth|account)[-_.]?key(?:[-_.]?id)?|keys?|secrets?|tokens?|passw\w*|pwd"
    r"|passphrase|credentials?|auth|authorization|bearer|signature|sig)"
)
_OPTION = re.compile(rf"--?(?:[\w.-]*[-_.])?{_NAMES}", re.IGNORECASE)
_IN_JSON = re.compile(
    rf"""(?P<name>["'](?:[\w.-]*[-_.])?{_NAMES}["']\s*:\s*)(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\[[^\]]*\])""",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    rf"""(?P<name>(?<![\w.-])(?:--?)?(?:[\w.-]*[-_.])?{_NAMES}\s*[=:]\s*)(?:(?:bearer|basic)\s+)?[^\s&;'"]+""",
    re.IGNORECASE,
)
"""In an address, a header, a shell's line: `token=...`, `Authorization: Bearer ...`."""
_FOLLOWED = re.compile(rf"""(?P<name>(?<![\w.-])--(?:[\w.-]*[-_.])?{_NAMES}\s+)[^\s&;'"-][^\s&;'"]*""", re.IGNORECASE)
_VALUE = re.compile(r"(?<!\w)(?:sk-|hf_|gh[opsu]_|github_pat_|glpat-|nvapi-|xox[a-z]-)[\w-]{8,}")
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
    """Return a text without passwords in addresses, values of what is named like a secret, and keys of a known form."""
    argument = _IN_JSON.sub(lambda match: f'{match["name"]}"{HIDDEN}"', argument)
    for pattern in (_ASSIGNED, _FOLLOWED):
        argument = pattern.sub(_hidden, argument)
    return _VALUE.sub(HIDDEN, IN_ADDRESS.sub(HIDDEN, argument))


def _hidden(match: re.Match[str]) -> str:
    name = match["name"].strip().rstrip("=:").strip()
    return match[0] if _COUNTS.match(name) else f"{match['name']}{HIDDEN}"


def _is_secret(option: str) -> bool:
    return bool(_OPTION.fullmatch(option)) and not _COUNTS.match(option)
