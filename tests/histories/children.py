"""Running something in a forked child process."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any


def in_a_child(function: Callable[[], Any], seconds: int = 30) -> Any:
    """Return what `function` returns in a forked child process.

    Raises:
        RuntimeError: the child died, or did not get done.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            signal.alarm(seconds)
            warnings.simplefilter("ignore")
            logging.getLogger("ascend_overlay").addHandler(logging.NullHandler())
            answer = function()
            with os.fdopen(writing, "wb") as file:
                pickle.dump(answer, file)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if status or not data:
        raise RuntimeError("the child did not get done" if status == signal.SIGALRM else f"the child died: {status}")
    return pickle.loads(data)
