"""Running the blocks of a document, in their order, in a folder of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import IO, Any

from blocks import Block, Document
from matching import matches
from scratch import EXAMPLES, Scratch

REPOSITORY = Path(__file__).parents[2]
TIMEOUT = 400
"""Seconds for one command or block; an engine that starts on a slow machine is the longest."""


class BlockError(AssertionError):
    """A block does not do what the document says."""


@dataclass
class _Printed:
    block: Block
    text: str


class Execution:
    """One document being executed.

    Attributes:
        ran: how many blocks something was done with.
        not_run: (line, reason) of the blocks that are kept from being run.
    """

    def __init__(self, document: Document, environment: Scratch) -> None:
        self.document = document
        self.ran = 0
        self.not_run: list[tuple[int, str]] = []
        self._environment = environment
        self._folder = environment.folder / "document"
        # What a reader who stands in a checkout has; a copy, because building a distribution leaves files in it.
        copytree(EXAMPLES, self._folder / "examples", ignore=ignore_patterns("build", "*.egg-info", "__pycache__"))
        self._shell = _Shell(environment, self._folder)
        self._interpreter: _Interpreter | None = None
        self._printed: _Printed | None = None

    def run(self) -> None:
        """Run all blocks.

        Raises:
            BlockError: one of them fails, or prints something else than the document says.
        """
        try:
            for block in self.document.blocks:
                if block.not_run is not None:
                    self.not_run.append((block.line, block.not_run))
                    self._printed = None
                elif block.runs:
                    self._run(block)
                    self.ran += 1
        finally:
            self._stop()

    def _run(self, block: Block) -> None:
        if "file" in block.options:
            path = self._folder / block.options["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif "excerpt" in block.options:
            source = (REPOSITORY / block.options["excerpt"]).read_text(encoding="utf-8")
            if block.text not in source:
                raise self._failure(block, f"it is not, word for word, in {block.options['excerpt']}")
        elif "output" in block.words:
            self._compare(block)
        elif block.language == "python":
            self._python(block)
        elif block.language == "console":
            self._console(block)
        else:
            self._printed = _Printed(block, self._command(block, f"set -e\n{block.text}", 0))

    def _compare(self, block: Block) -> None:
        if self._printed is None:
            raise self._failure(block, "there is no block above it that was run")
        self._expect(block, block.text, self._printed.text)

    def _python(self, block: Block) -> None:
        if "fresh" in block.words:
            self._stop()
        if self._interpreter is None:
            self._interpreter = _Interpreter(self._environment, self._folder)
        answer = self._interpreter.run(self.document.path.name, block)
        wanted = block.options.get("raises")
        if answer["error"] != wanted:
            what = answer["traceback"] or answer["output"]
            raise self._failure(block, f"it should {'raise ' + wanted if wanted else 'end well'}:\n{what}")
        printed = answer["output"]
        if wanted:
            printed += f"{answer['error']}: {answer['message']}"
        self._printed = _Printed(block, printed)

    def _console(self, block: Block) -> None:
        printed: list[str] = []
        for command, expected in commands(block.text):
            printed.append(self._command(block, command, int(block.options.get("status", "0"))))
            if expected.strip():
                self._expect(block, expected, printed[-1])
        if not printed:
            raise self._failure(block, "there is no line in it that begins with '$ '")
        self._printed = _Printed(block, "".join(printed))

    def _command(self, block: Block, command: str, status: int) -> str:
        returned, output = self._shell.run(command)
        if returned != status:
            raise self._failure(block, f"status {returned}, expected {status}: {command}\n{output[-6000:]}")
        return output

    def _expect(self, block: Block, expected: str, actual: str) -> None:
        if not matches(expected, actual):
            raise self._failure(block, f"expected:\n{expected}\nprinted:\n{actual[-8000:]}")

    def _failure(self, block: Block, text: str) -> BlockError:
        return BlockError(f"{self.document.path.name}:{block.line}: {text}")

    def _stop(self) -> None:
        if self._interpreter is not None:
            self._interpreter.stop()
            self._interpreter = None


def commands(text: str) -> list[tuple[str, str]]:
    """Return the (command, expected output) pairs of a console block."""
    found: list[tuple[list[str], list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif found and not found[-1][1] and line.startswith("> "):
            found[-1][0].append(line[2:])
        elif found:
            found[-1][1].append(line)
    return [("\n".join(command), "\n".join(expected)) for command, expected in found]


class _Shell:
    """A shell session: folder and environment variables last from one command to the next."""

    def __init__(self, environment: Scratch, folder: Path) -> None:
        self._environment = environment
        self._state = environment.folder / "shell_state"
        self._cwd = folder
        self._variables: dict[str, str] = {}

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; return its status and what it printed, errors included."""
        keep = f"status=$?; {{ pwd; env -0; }} > {shlex.quote(str(self._state))}; exit $status"
        done = self._environment.run(
            *("bash", "-c", f"exec 2>&1\n{{\n{command}\n}}\n{keep}"),
            env=self._variables,
            cwd=self._cwd,
            check=False,
            timeout=TIMEOUT,
        )
        if self._state.exists():
            folder, _, variables = self._state.read_text(encoding="utf-8").partition("\n")
            self._cwd = Path(folder)
            self._variables = dict(item.split("=", 1) for item in variables.split("\0") if "=" in item)
            self._state.unlink()
        return done.returncode, done.stdout + done.stderr


class _Interpreter:
    """The process that runs the python blocks."""

    def __init__(self, environment: Scratch, folder: Path) -> None:
        requests, requests_in = os.pipe()
        answers_out, answers = os.pipe()
        script = Path(__file__).with_name("interpreter.py")
        self._log = (environment.folder / "interpreter.log").open("a+")
        self._process = subprocess.Popen(
            [str(environment.python), str(script), str(requests), str(answers)],
            env=environment.environment(),
            cwd=folder,
            pass_fds=(requests, answers),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        os.close(requests)
        os.close(answers)
        self._requests: IO[str] = os.fdopen(requests_in, "w")
        self._answers: IO[str] = os.fdopen(answers_out)

    def run(self, document: str, block: Block) -> dict[str, Any]:
        """Run a block; return the answer of interpreter.py."""
        self._requests.write(json.dumps({"document": document, "line": block.line, "text": block.text}) + "\n")
        self._requests.flush()
        line = self._answers.readline()
        if not line:
            self._log.seek(0)
            raise BlockError(f"{document}:{block.line}: the interpreter died:\n{self._log.read()[-6000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End the process."""
        self._requests.close()
        self._answers.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
