"""overlay.lock: written and read, and what it says of a release."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ascend_overlay import lockfile
from ascend_overlay.errors import ConfigError, LockError
from ascend_overlay.lock_comparison import locked, look
from ascend_overlay.lockfile import Lock, Locked, LockedRelease
from ascend_overlay.releases import Release

FORWARD = Locked("0123456789abcdef", "(self, x, *, eps=1e-06)", "method")
LOCK = Lock(
    {
        "0.33.0": LockedRelease({"vllm.a:A.f": FORWARD}),
        "0.9.0": LockedRelease(
            {"vllm.b:C": Locked("00", "", "class"), "vllm.a:A.f": FORWARD},
            {"vllm.c:x": Locked("11", "()", "function", ("mla", "moe"))},
        ),
    },
    {"zoo": "2.0", "my-plugin": "1.2"},
)
TEXT = """\
# What overlays rest on, release by release. `ascend-overlay lock` writes this file; keep it with the code.
format = 1

[plugins]
my-plugin = "1.2"
zoo = "2.0"

[releases."0.9.0".targets]
"vllm.a:A.f" = {kind = "method", fingerprint = "0123456789abcdef", signature = "(self, x, *, eps=1e-06)"}
"vllm.b:C" = {kind = "class", fingerprint = "00"}

[releases."0.9.0".leans_on]
"vllm.c:x" = {kind = "function", fingerprint = "11", signature = "()", by = ["mla", "moe"]}

[releases."0.33.0".targets]
"vllm.a:A.f" = {kind = "method", fingerprint = "0123456789abcdef", signature = "(self, x, *, eps=1e-06)"}

[releases."0.33.0".leans_on]
"""

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
things = st.dictionaries(
    words, st.builds(Locked, words, words, words, st.lists(words, unique=True, max_size=2).map(sorted).map(tuple))
)
numbers = st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}(rc1)?", fullmatch=True)


def test_what_is_written(tmp_path: Path) -> None:
    LOCK.write(tmp_path / "overlay.lock")
    assert (tmp_path / "overlay.lock").read_text() == TEXT
    assert Lock.read(tmp_path / "overlay.lock") == LOCK
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.lock"]


@settings(max_examples=30)
@given(
    lock=st.builds(
        Lock, st.dictionaries(numbers, st.builds(LockedRelease, things, things)), st.dictionaries(words, words)
    )
)
def test_what_is_written_is_read(lock: Lock, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lock") / "overlay.lock"
    lock.write(path)
    assert Lock.read(path) == lock
    text = path.read_text()
    Lock.read(path).write(path)
    assert path.read_text() == text


def test_a_local_label_does_not_matter() -> None:
    first, second = LockedRelease({"vllm:a": Locked("1")}), LockedRelease()
    lock = Lock({"1.0+cpu": first}).with_release("0.9+cpu", second)
    assert list(lock.releases) == ["1.0+cpu", "0.9"]
    assert lock.of("1.0") == lock.of("1.0+cu12") == ("1.0+cpu", first)
    assert lock.with_release("1.0+cu12", second).releases == {"0.9": second, "1.0": second}
    with pytest.raises(ConfigError, match="'dev' is no number"):
        lock.with_release("dev", second)


def test_python_3_10_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LOCK.write(tmp_path / "overlay.lock")
    monkeypatch.setattr(lockfile.sys, "version_info", (3, 10))
    assert Lock.read(tmp_path / "overlay.lock") == LOCK
    (tmp_path / "overlay.lock").write_text("format = \n")
    with pytest.raises(LockError, match="is no TOML"):
        Lock.read(tmp_path / "overlay.lock")


RELEASE = 'format = 1\n[releases."0.9.0".targets]\n'


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "says in no way that is known which format"),
        ("format = true", "which format"),
        ("format = 2", "has the format 2, and this ascend_overlay reads 1"),
        ("format = 1\nformat = 1", "is no TOML"),
        ("format = 1\n[plugins]\na = '1'\na = '2'", "is no TOML"),
        ("format = 1\n[plugins]\na = 1", "has 1 as the version of the plugin 'a'"),
        ("format = 1\nplugins = 1", "something else than a table at plugins"),
        ("format = 1\nreleases = []", "something else than a table at releases"),
        ("format = 1\nmore = 1", "has 'more', which means nothing"),
        ('format = 1\n[releases."new"]', "has a release 'new', which is no number"),
        ('format = 1\n[releases]\n"0.9.0" = 1', "something else than a table at releases.0.9.0"),
        ('format = 1\n[releases."0.9.0"]\ntarget = 1', "has 'target' in releases.0.9.0, which means nothing"),
        (RELEASE + "'vllm:a' = 1", "has 1 for 'vllm:a' in releases.0.9.0.targets, where a table is due"),
        (RELEASE + "'vllm:a' = {kind = 'value'}", "lacks the kind or the fingerprint of 'vllm:a'"),
        (RELEASE + "'vllm:a' = {kind = 1, fingerprint = ''}", "something else than text"),
        (RELEASE + "'vllm:a' = {kind = '', fingerprint = '', by = 'x'}", "something else than text"),
        (RELEASE + "'vllm:a' = {kind = '', fingerprint = '', by = [1]}", "something else than names of overlays"),
        (RELEASE + "'vllm:a' = {kind = '', fingerprint = '', colour = ''}", "has 'colour' in releases.0.9.0.targets"),
        (RELEASE + "'vllm:a' = {kind = ''", "is no TOML"),
        ("<<<<<<< HEAD\nformat = 1", "is no TOML"),
        ("a = " + "[" * 5000, "is no TOML"),
        ("\0", "is no TOML"),
    ],
)
def test_a_lock_that_is_none(tmp_path: Path, text: str, part: str) -> None:
    path = tmp_path / "overlay.lock"
    path.write_text(text)
    with pytest.raises(LockError) as raised:
        Lock.read(path)
    sentence = str(raised.value)
    assert part in sentence and repr(str(path)) in sentence and "\n" not in sentence
    assert sentence.endswith("write it anew with `ascend-overlay lock`.")


def test_a_lock_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="there is no lock"):
        Lock.read(tmp_path / "overlay.lock")
    with pytest.raises(LockError, match="cannot be read"):
        Lock.read(tmp_path)
    with pytest.raises(LockError, match="cannot be read"):
        Lock.read("a\0b")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(LockError, match="is no text"):
        Lock.read(tmp_path / "binary")


def test_who_is_interrupted_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "overlay.lock"
    path.write_text("old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            LOCK.write(path)
    assert [each.name for each in tmp_path.iterdir()] == ["overlay.lock"] and path.read_text() == "old"
    with pytest.raises(LockError, match="cannot be written"):
        LOCK.write(tmp_path / "nowhere" / "overlay.lock")


def test_a_link_to_a_lock_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "overlay.lock").symlink_to(tmp_path / "far" / "overlay.lock")
    LOCK.write(tmp_path / "overlay.lock")
    assert (tmp_path / "overlay.lock").is_symlink() and Lock.read(tmp_path / "far" / "overlay.lock") == LOCK


def test_the_nearest_release_before() -> None:
    def nearest(version: str) -> str | None:
        found = LOCK.of(version)
        return found and found[0]

    assert [nearest(each) for each in ("0.33.0", "0.33.0+cpu", "0.33", "0.34.1", "0.32.9", "0.33.0rc1")] == [
        "0.33.0",
        "0.33.0",
        "0.33.0",
        "0.33.0",
        "0.9.0",
        "0.9.0",
    ]
    assert nearest("0.8.9") is None and nearest("dev") is None


def test_one_more_release() -> None:
    more = LOCK.with_release("0.9.0", LockedRelease())
    assert more.releases == {**LOCK.releases, "0.9.0": LockedRelease()} and more.plugins == LOCK.plugins
    assert LOCK.releases["0.9.0"] != LockedRelease()


MODULE = '''
import os
from vllm.other import moved
def f(a: int, /, b=X.Y, *c, d, **e) -> int:
    """Doc."""
    return a
@cache
def g(): ...
class A:
    """Doc."""
    x: int = 1
    def __init__(self, size: int) -> None: ...
    def m(self): ...
    @classmethod
    def c(cls): ...
    @staticmethod
    def s(): ...
    @property
    def p(self): ...
class B(A):
    pass
if os.name:
    def h(): return 1
else:
    def h(): return 2
CONSTANT = [1]
'''


@pytest.fixture
def release(tmp_path: Path) -> Release:
    """A package that has a bit of everything."""
    folder = tmp_path / "vllm"
    folder.mkdir()
    files = {
        "__init__.py": "",
        "m.py": MODULE,
        "other.py": "async def moved(self, x=1): ...\n",
        "fast.so": "",
        "bad.py": "(",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return Release("here", "", folder)


@pytest.mark.parametrize(
    ("target", "kind", "signature"),
    [
        ("vllm.m:f", "function", "(a, /, b=X.Y, *c, d, **e)"),
        ("vllm.m:g", "decorated", "()"),
        ("vllm.m:moved", "function", "(self, x=1)"),
        ("vllm.other:moved", "function", "(self, x=1)"),
        ("vllm.m:A", "class", "(self, size)"),
        ("vllm.m:B", "class", ""),
        ("vllm.m:A.m", "method", "(self)"),
        ("vllm.m:B.m", "method", "(self)"),
        ("vllm.m:A.c", "classmethod", "(cls)"),
        ("vllm.m:A.s", "staticmethod", "()"),
        ("vllm.m:A.p", "property", "(self)"),
        ("vllm.m:A.x", "value", ""),
        ("vllm.m:CONSTANT", "value", ""),
        ("vllm.m:h", "unknown", ""),
        ("vllm.m:CONSTANT.append", "unknown", ""),
        ("vllm.bad:x", "unknown", ""),
    ],
)
def test_what_a_name_is(release: Release, target: str, kind: str, signature: str) -> None:
    found = look(release.sources, target)
    assert found is not None
    assert (found.kind, found.signature) == (kind, signature)
    assert bool(found.fingerprint) == (target != "vllm.bad:x")


@pytest.mark.parametrize("target", ["vllm.m:nothing", "vllm.m:A.nothing", "vllm.gone:x", "vllm.m.deeper:x"])
def test_what_is_not_there(release: Release, target: str) -> None:
    assert look(release.sources, target) == Locked("", "", "absent")


def test_modules(release: Release) -> None:
    assert look(release.sources, "vllm.m") == Locked("", "", "module")
    assert look(release.sources, "vllm.gone") == Locked("", "", "absent")


def test_what_is_compiled_is_there(release: Release, monkeypatch: pytest.MonkeyPatch) -> None:
    from ascend_overlay.source import folders

    monkeypatch.setattr(folders, "_SUFFIXES", (".so", ".py"))
    assert look(release.sources, "vllm.fast:x") == Locked("", "", "unknown")


@pytest.mark.parametrize(
    "target", ["torch.nn:Linear", "ASCEND", "vllmx.m", "vllm.m:", "vllm.m:a b", "vllm.m:f:g", "vllmx:f"]
)
def test_what_has_no_source_in_the_package(release: Release, target: str) -> None:
    assert look(release.sources, target) is None


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("return a", "return a  # really", True),
        ('"""Doc."""\n    return', '"""Other."""\n    return', True),
        ("a: int, /", "a: float, /", True),
        ("return a", "return b", False),
        ("*c, d", "*c, d=1", False),
    ],
)
def test_fingerprints_follow_the_code(release: Release, before: str, after: str, same: bool) -> None:
    assert before in MODULE
    first = look(release.sources, "vllm.m:f")
    (release.folder / "m.py").write_text(MODULE.replace(before, after))
    assert (look(Release("here", "", release.folder).sources, "vllm.m:f") == first) is same


def test_a_function_that_moved_keeps_its_fingerprint(release: Release) -> None:
    before = look(release.sources, "vllm.m:f")
    at = MODULE.index("def f"), MODULE.index("@cache")
    (release.folder / "other.py").write_text(textwrap.dedent(MODULE[at[0] : at[1]]))
    (release.folder / "m.py").write_text("from vllm.other import f\n")
    assert look(Release("here", "", release.folder).sources, "vllm.m:f") == before


def test_both_branches_count_for_what_is_not_certain(release: Release) -> None:
    before = look(release.sources, "vllm.m:h")
    (release.folder / "m.py").write_text(MODULE.replace("return 2", "return 3"))
    assert look(Release("here", "", release.folder).sources, "vllm.m:h") != before


def test_the_targets_of_patches(release: Release) -> None:
    patches = [SimpleNamespace(target=text) for text in ("vllm.m:f", "ASCEND", "vllm.m:f", "vllm.m:nothing")]
    found = locked(patches, release)
    assert {target: each.kind for target, each in found.items()} == {"vllm.m:f": "function", "vllm.m:nothing": "absent"}
