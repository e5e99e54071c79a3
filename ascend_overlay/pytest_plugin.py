"""Fixtures for the tests of overlays. pytest finds them by itself where ascend_overlay is installed.

Every pytest of the environment imports this module, so it imports nothing more before a fixture is used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ascend_overlay.releases import Release


@pytest.fixture
def overlays() -> Iterator[Callable[..., None]]:
    """Enable overlays until the end of the test: `overlays("name", role="worker", load=["my_plugin"])`.

    Takes the arguments of ascend_overlay.testing.enabled(); may be called more than once.
    """
    from ascend_overlay import testing

    with contextlib.ExitStack() as stack:

        def enable(*names: object, **arguments: object) -> None:
            stack.enter_context(testing.enabled(*names, **arguments))  # type: ignore[arg-type]

        yield enable


@pytest.fixture
def vllm_tree() -> Callable[[str], Release]:
    """Return the source of a release of vLLM, which is read and never imported: `vllm_tree("0.33.0").sources`.

    Takes what `ascend_overlay.releases.find` takes and is one release: a number, "installed", "newest", a folder, an
    archive. What no index and no cache has because there is no network skips the test, with the sentence; where the
    variable CI is set, and for whatever else is amiss, it fails.
    """
    from ascend_overlay import releases
    from ascend_overlay.errors import ReleaseError

    def tree(release: str) -> Release:
        try:
            found = releases.find([release])
        except ReleaseError as error:
            if _is_remote(release) and not os.environ.get("CI") and _is_offline():
                pytest.skip(f"no network: {error}")
            pytest.fail(str(error))
        if len(found) != 1:
            pytest.fail(f"{release!r} is {len(found)} releases, and vllm_tree() takes one: name its number.")
        return found[0]

    return tree


def _is_remote(release: str) -> bool:
    """Tell whether a release is one that an index has, rather than a path."""
    from packaging.version import InvalidVersion, Version

    if release in ("newest", "newest-pre") or release.strip()[:1] in tuple("<>=!~"):
        return True
    try:
        Version(release)
    except InvalidVersion:
        return False
    return True


def _is_offline() -> bool:
    from ascend_overlay.releases.index import Index

    index = Index()
    return not index.releases("vllm") or bool(index.failures)
