"""The process that runs the python blocks of a document: python interpreter.py REQUESTS_FD ANSWERS_FD

One JSON object a line in each direction. Its standard output belongs to the blocks, and to their children.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback


def main() -> None:
    """Answer requests until there are no more."""
    requests, answers = (int(text) for text in sys.argv[1:3])
    sys.argv[:] = [""]
    sys.path[0] = os.getcwd()
    module = type(sys)("__main__")
    sys.modules["__main__"] = module
    with os.fdopen(requests) as incoming, os.fdopen(answers, "w") as outgoing:
        for line in incoming:
            outgoing.write(json.dumps(run(json.loads(line), vars(module))) + "\n")
            outgoing.flush()


def run(request: dict[str, str], namespace: dict[str, object]) -> dict[str, str | None]:
    """Run one block; return what it printed, and the exception that ended it."""
    printed = io.StringIO()
    error: BaseException | None = None
    with contextlib.redirect_stdout(printed):
        try:
            # Lines of the document are lines of the traceback.
            code = "\n" * (int(request["line"]) - 1) + request["text"]
            exec(compile(code, request["document"], "exec"), namespace)
        except BaseException as raised:
            error = raised
    return {
        "output": printed.getvalue(),
        "error": None if error is None else type(error).__name__,
        "message": None if error is None else str(error),
        "traceback": None if error is None else "".join(traceback.format_exception(error)),
    }


if __name__ == "__main__":
    main()
