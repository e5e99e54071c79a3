"""The tables of docs/operators.md: python -m ascend_overlay.commands.verify.page docs/operators.md

Written from the reference kernels, the sources of the overlays and the recorded schemas (ascend_overlay.npu.schemas).
What stands above the mark in the document is left as it is.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from ascend_overlay.commands.verify import usage
from ascend_overlay.commands.verify.usage import Usage
from ascend_overlay.npu import contract, schemas
from ascend_overlay.npu.kernel import ReferenceKernel
from ascend_overlay.npu.reference import KERNELS
from ascend_overlay.overlays import ascend_overlay_overlays

MARK = "<!-- written by python -m ascend_overlay.commands.verify.page; not by hand -->"


def refused(kernel: ReferenceKernel, theirs: str, usages: Iterable[Usage]) -> list[str]:
    """Return why a release with the schema `theirs` does not take the calls in `usages`, each reason once."""
    reasons = [
        contract.refusal(kernel.schema, theirs, call)
        for use in usages
        for _, call in use.calls
        if call.operator == kernel.name
    ]
    return list(dict.fromkeys(reason for reason in reasons if reason))


def unfit(use: Usage, release: schemas.Release, kernels: Mapping[str, ReferenceKernel]) -> list[str]:
    """Return why an overlay cannot run with a release of torch_npu, as sentences."""
    found = []
    for name in sorted(use.loads | {call.operator for _, call in use.calls}):
        if name not in kernels or name not in release.schemas:
            continue
        theirs = release.schemas[name]
        if theirs is None:
            found.append(f"torch_npu {release.version} has no operator npu::{name}.")
            continue
        reasons = refused(kernels[name], theirs, [use])
        found += [f"npu::{name} of torch_npu {release.version} {reason}." for reason in reasons]
    return found


def text() -> str:
    """Return everything below the mark."""
    kernels = {kernel.name: kernel for kernel in sorted(KERNELS, key=lambda kernel: kernel.name.lstrip("_"))}
    usages = {overlay.name: usage.of(overlay) for overlay in ascend_overlay_overlays()}
    sections = [line for kernel in kernels.values() for line in _section(kernel, usages)]
    return "\n".join([*_table(kernels, usages), *sections])


def write(document: Path) -> None:
    """Put the tables below the mark in `document`."""
    above, mark, _ = document.read_text(encoding="utf-8").partition(MARK)
    document.write_text(f"{above.rstrip()}\n\n{mark or MARK}\n\n{text()}\n", encoding="utf-8")


def _table(kernels: Mapping[str, ReferenceKernel], usages: Mapping[str, Usage]) -> Iterator[str]:
    releases = schemas.releases()
    yield f"| operator | {' | '.join(releases)} | meta kernel | overlays |"
    yield f"| --- |{' --- |' * (len(releases) + 2)}"
    for name, kernel in kernels.items():
        cells = [_fit(kernel, release, usages.values()) for release in releases.values()]
        meta = "yes" if name in releases[schemas.HOME].meta else "no"
        link = f"[`{name}`](#{name.replace('.', '')})"
        yield f"| {link} | {' | '.join(cells)} | {meta} | {_overlays(name, usages) or 'none'} |"
    yield ""


def _section(kernel: ReferenceKernel, usages: Mapping[str, Usage]) -> Iterator[str]:
    yield f"### {kernel.name}"
    yield ""
    yield _summary(kernel)
    yield ""
    yield "```text"
    yield kernel.schema
    yield "```"
    yield ""
    yield f"- Overlays: {_overlays(kernel.name, usages) or 'none'}."
    yield f"- Source: {kernel.source}."
    for version, release in schemas.releases().items():
        theirs = release.schemas.get(kernel.name)
        if theirs is None:
            yield f"- torch_npu {version} does not have it."
            continue
        if found := contract.differences(kernel.schema, theirs):
            yield f"- That of torch_npu {version} {'; it '.join(difference.text for difference in found)}."
    yield ""


def _fit(kernel: ReferenceKernel, release: schemas.Release, usages: Collection[Usage]) -> str:
    theirs = release.schemas.get(kernel.name)
    verdict = contract.verdict(kernel.schema, theirs)
    called = any(kernel.name in use.loads for use in usages)
    if verdict != "different" or theirs is None or not called:
        return verdict
    return "calls refused" if refused(kernel, theirs, usages) else "calls fit"


def _overlays(operator: str, usages: Mapping[str, Usage]) -> str:
    return ", ".join(name for name, use in usages.items() if operator in use.loads)


def _summary(kernel: ReferenceKernel) -> str:
    """Return the first paragraph of the kernel's documentation, as Markdown."""
    paragraph = (inspect.getdoc(kernel.cpu) or "").partition("\n\n")[0]
    return " ".join(paragraph.split()).replace("``", "`")


if __name__ == "__main__":
    for argument in sys.argv[1:] or ["docs/operators.md"]:
        write(Path(argument))
