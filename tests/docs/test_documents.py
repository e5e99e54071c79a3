"""Every block of code in the documents does what the document says."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocks import Document, read
from execute import REPOSITORY, Execution
from scratch import EXAMPLES, Scratch

DOCUMENTS = [
    read(path)
    for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")), *sorted(EXAMPLES.rglob("*.md")))
]


def _parameter(document: Document) -> object:
    marks = [getattr(pytest.mark, document.mark)] if document.mark else []
    return pytest.param(document, id=str(document.path.relative_to(REPOSITORY)), marks=marks)


@pytest.mark.parametrize("document", [_parameter(document) for document in DOCUMENTS])
def test_document(document: Document, tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    execution = Execution(document, Scratch(tmp_path))
    execution.run()
    for line, reason in execution.not_run:
        # Shown by `pytest -s`, and in a JUnit report.
        print(f"{document.path.name}:{line} not run: {reason}")
        record_property("not_run", f"{document.path.name}:{line} {reason}")


def test_blocks_that_are_not_run() -> None:
    """The whole list: what is added to it is a decision."""
    not_run = {
        (str(document.path.relative_to(REPOSITORY)), block.not_run)
        for document in DOCUMENTS
        for block in document.blocks
        if block.not_run is not None
    }
    assert not_run <= {
        ("README.md", "this is the set-up of the machine itself"),
        ("README.md", "this is what runs the tests"),
        ("README.md", "a release is downloaded"),
        ("README.md", "it serves until it is stopped"),
        ("README.md", "docs/quantization.md runs it with a model"),
        ("docs/configuration.md", "it serves until it is stopped"),
        ("docs/npu.md", "it needs torch_npu, as the tests of the software NPU do"),
        ("docs/package_page.md", "the README has the same"),
        ("docs/quantization.md", "it serves until it is stopped"),
        ("docs/running_in_production.md", "it serves until it is stopped"),
        ("docs/quantization.md", "it runs a model in vLLM, as the tests of quantized models do"),
        ("examples/custom_model/README.md", "it serves until it is stopped"),
    }
