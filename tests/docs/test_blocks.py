"""The executor of documents itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import DocumentError, read
from execute import BlockError, Execution, commands
from matching import matches
from scratch import Scratch


def executed(folder: Path, text: str) -> Execution:
    """Execute a document."""
    path = folder / "document.md"
    path.write_text(text)
    execution = Execution(read(path), Scratch(folder))
    execution.run()
    return execution


def test_a_document_that_keeps_its_word(tmp_path: Path) -> None:
    execution = executed(
        tmp_path,
        """
# Title
```python file=package/numbers_of_mine.py
FOUR = 4
```
```python
from package.numbers_of_mine import FOUR
five = FOUR + 1
```
Text.
```python
print("five is", five)
```
```text output
five is 5
```
```python raises=KeyError
print("before")
{}["x"]
```
```text output
before KeyError: 'x'
```
```console
$ export COLOUR=green; cd package
$ echo "it is $COLOUR" \\
>   and so on
it ... so on
$ ls
... numbers_of_mine.py
```
```console status=3
$ exit 3
```
```bash
test "$COLOUR" = green
```
```python fresh
print("five" in globals())
```
```text output
False
```
<!-- not run: it takes for ever -->
```console
$ sleep 1000000
```
```json
{"read": "only"}
```
""",
    )
    assert execution.ran == 11
    assert [reason for _, reason in execution.not_run] == ["it takes for ever"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\n1 / 0\n```", "document.md:2: it should end well"),
        ("```python raises=KeyError\n1 / 0\n```", "it should raise KeyError"),
        ("```python raises=KeyError\n1\n```", "it should raise KeyError"),
        ("```python\nprint(1)\n```\n```text output\n2\n```", "expected:\n2\n\nprinted:\n1"),
        ("```console\n$ false\n```", "status 1, expected 0"),
        ("```console status=1\n$ true\n```", "status 0, expected 1"),
        ("```console\n$ echo a\nb\n```", "expected:\nb"),
        ("```console\nls\n```", "there is no line in it that begins with"),
        ("```bash\nfalse\ntrue\n```", "status 1"),
        ("```text output\n2\n```", "there is no block above it"),
        ("```python excerpt=setup.cfg\nnot in there\n```", "it is not, word for word, in setup.cfg"),
        ("```python\nimport os; os._exit(1)\n```", "the interpreter died"),
    ],
)
def test_a_document_that_does_not(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BlockError) as caught:
        executed(tmp_path, text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nx = 1\n", "document.md:1: the block does not end"),
        ("```sh\nls\n```", "write python, console or bash instead of 'sh'"),
        ("```python frehs\nx = 1\n```", "'frehs' in the info string means nothing"),
        ("```python flie=x\nx = 1\n```", "'flie' in the info string means nothing"),
    ],
)
def test_a_document_against_the_conventions(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "document.md"
    path.write_text(text)
    with pytest.raises(DocumentError, match=complaint):
        read(path)


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("a b", "a\n  b\n", True),
        ("a b", "a b c", False),
        ("a ... c", "a b\nb c", True),
        ("a ... c", "a c", True),
        ("...\nc\n...", "a\nb c d", True),
        ("...\nc", "a b c d", False),
        ("(1.5) [x]", "(1.5) [x]", True),
        ("1.5", "1x5", False),
    ],
)
def test_matching(expected: str, actual: str, same: bool) -> None:
    assert matches(expected, actual) is same


def test_commands_of_a_console_block() -> None:
    assert commands("$ a \\\n> b\nout\n> out\n$ c\n") == [("a \\\nb", "out\n> out"), ("c", "")]
