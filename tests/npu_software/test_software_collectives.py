"""The backend hccl between two processes, each on a device of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from software_kit import Software, cases_of

FILE = "inside_collectives.py"


@pytest.fixture(scope="module")
def ranks(software: Software, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str | None]]:
    meeting = tmp_path_factory.mktemp("meeting") / "store"
    with ThreadPoolExecutor() as pool:
        options = ("--npu-devices", "2")
        running = [pool.submit(software.results, FILE, str(rank), str(meeting), options=options) for rank in range(2)]
        return [one.result() for one in running]


@pytest.mark.parametrize("name", cases_of(FILE))
def test_collectives(ranks: list[dict[str, str | None]], name: str) -> None:
    assert [found[name] for found in ranks] == [None, None]
