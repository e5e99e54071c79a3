"""The file that a model is calibrated with."""

from __future__ import annotations

from pathlib import Path

from ascend_overlay.errors import QuantizeError
from ascend_overlay.quantization import json_file

NEEDED = (
    "w8a8 and w8a8_mix fix the range of every layer's input before serving, so the ranges have to be observed. Pass "
    '--calibrate FILE with texts such as the model will see: one prompt a line, or a .jsonl file with {"text": ...} or '
    '{"tokens": [...]} on each line; some dozens are enough. w8a8_dynamic needs no calibration.'
)


def read(path: Path) -> list[str | list[int]]:
    """Return the prompts of a file, each a text or a list of tokens.

    Args:
        path: one prompt a line; or, if its name ends in .jsonl, one object a line with "text" or "tokens". Blank
            lines are passed over.

    Raises:
        QuantizeError: the file cannot be read, a line is not as it should be, or there is no prompt.
    """
    if path.exists() and not path.is_file():
        # A run that goes on where it ended reads it again, which a pipe does not allow.
        raise QuantizeError(f"the calibration file {str(path)!r} is not a regular file. Write the prompts into one.")
    try:
        # Not splitlines(): a prompt may hold other characters that end a line for Python, as U+2028 in JSON.
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise QuantizeError(f"the calibration file {str(path)!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise QuantizeError(f"the calibration file {str(path)!r} is not text in UTF-8.") from error
    prompts: list[str | list[int]] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            prompts.append(_parse(line, f"{path}:{number}") if path.suffix == ".jsonl" else line)
    if not prompts:
        raise QuantizeError(
            f"the calibration file {str(path)!r} has no prompt in it. Write texts such as the model will see into it, "
            f"one a line."
        )
    return prompts


def _parse(line: str, where: str) -> str | list[int]:
    try:
        data = json_file.parse(line)
    except ValueError as error:
        raise QuantizeError(f"{where} {error}. Mend the line, or leave it out.") from error
    if isinstance(data, dict):
        text, tokens = data.get("text"), data.get("tokens")
        if isinstance(text, str) and text and tokens is None:
            return text
        if text is None and isinstance(tokens, list) and tokens and all(_is_token(token) for token in tokens):
            return tokens
    raise QuantizeError(f'{where} is neither {{"text": "..."}} nor {{"tokens": [...]}} with tokens from 0 on.')


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
