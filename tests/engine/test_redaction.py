"""Secrets stay out of what is written down."""

from __future__ import annotations

import pytest

from ascend_overlay import process, redaction

HIDDEN = {
    "an option": (["serve", "M", "--api-key", "sk1", "--port", "1"], ["serve", "M", "--api-key", "***", "--port", "1"]),
    "one of several values": (["--api-key", "a", "b", "--x"], ["--api-key", "***", "***", "--x"]),
    "after an equals sign": (["--api-key=a"], ["--api-key=***"]),
    "written otherwise": (["--API_KEY=a", "--hf-token", "b"], ["--API_KEY=***", "--hf-token", "***"]),
    "a part of a dict": (["--additional-config.api_key=a"], ["--additional-config.api_key=***"]),
    "one dash": (["-token", "a"], ["-token", "***"]),
    "JSON": (
        ['{"api_key": "a", "max": 1}', "{'hf_token':'a'}"],
        ['{"api_key": "***", "max": 1}', """{'hf_token':"***"}"""],
    ),
    "an address": (["http://me:secret@host/x"], ["http://***@host/x"]),
    "a user alone": (["https://ghp_abcdefgh@host/x"], ["https://***@host/x"]),
    "a value that looks like one": (["x", "hf_abcdefghijk"], ["x", "***"]),
    "a variable": (["env", "HF_TOKEN=a", "PORT=1"], ["env", "HF_TOKEN=***", "PORT=1"]),
    "a password": (["--redis-password", "a"], ["--redis-password", "***"]),
    "an abbreviation": (["--api-k", "a"], ["--api-k", "***"]),
    "keys of a cloud": (
        ['{"aws_secret_access_key": "a"}', "--access-key-id=a"],
        ['{"aws_secret_access_key": "***"}', "--access-key-id=***"],
    ),
    "a list in JSON": (['{"api_key": ["a", "b"]}'], ['{"api_key": "***"}']),
    "a value with a quote": (['{"token": "a\\"b"}'], ['{"token": "***"}']),
    "in an address": (
        ["https://h/m?token=a&x=1", "https://h/?sig=a"],
        ["https://h/m?token=***&x=1", "https://h/?sig=***"],
    ),
    "a password with an @": (["redis://u:p@s@h/0"], ["redis://***@h/0"]),
    "a header": (["-H", "Authorization: Bearer abc"], ["-H", "Authorization: ***"]),
    "a line of a shell": (
        ["-c", "export HF_TOKEN=a; vllm serve --api-key b --port 1"],
        ["-c", "export HF_TOKEN=***; vllm serve --api-key *** --port 1"],
    ),
    "an entry of another option": (
        ["--set", "a.token=b", "--env=HF_TOKEN=a"],
        ["--set", "a.token=***", "--env=HF_TOKEN=***"],
    ),
    "other keys": (["nvapi-abcdefghij", "github_pat_abcdefghij"], ["***", "***"]),
    "a key": (["--secret-key=a", "--key", "b"], ["--secret-key=***", "--key", "***"]),
}
SHOWN = [
    ["--max-num-batched-tokens", "2048"],
    ["-c", "vllm serve --max-num-batched-tokens 2048 --max-tokens=5 --tokenizer x"],
    ['{"max_tokens": 5, "tokenizer": "x", "author": "me"}'],
    ["--max-tokens=5"],
    ["--num-speculative-tokens", "5"],
    ["--tokenizer", "t", "--tokenizer-mode", "auto"],
    ["--skip-tokenizer-init"],
    ["--return-tokens-as-token-ids"],
    ["--ssl-keyfile", "k.pem"],
    ["risk_analysis", "task-force-one", "path/to/sk", "disk_usage"],
    ["http://host:80/x"],
    ["-c", "x"],
]


@pytest.mark.parametrize("kind", list(HIDDEN))
def test_secrets_are_hidden(kind: str) -> None:
    given, shown = HIDDEN[kind]
    assert redaction.arguments(given) == shown


@pytest.mark.parametrize("arguments", SHOWN, ids=" ".join)
def test_the_rest_is_shown(arguments: list[str]) -> None:
    assert redaction.arguments(arguments) == arguments


def test_a_ledger_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["vllm", "--api-key", "sk-SECRET"])
    assert process.shown(process.describe())["argv"] == ["vllm", "--api-key", "***"]
