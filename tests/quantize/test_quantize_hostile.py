"""Files that somebody else made: whatever is in them, one sentence names file and place, and says what to do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import quantize_kit as kit
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ascend_overlay.commands.quantize import prompts
from ascend_overlay.commands.quantize.checkpoint import header
from ascend_overlay.commands.quantize.run import plan, quantize
from ascend_overlay.errors import CheckpointError, OverlayError, QuantizeError
from ascend_overlay.quantization import description, json_file

INDEX, CONFIG, STATE = "model.safetensors.index.json", "config.json", "ascend_overlay_quantize.json"
SHARD = "model-00001-of-00002.safetensors"

# What stands where JSON is expected -> the words that follow the file's name.
TEXTS: dict[str, tuple[str, str]] = {
    "a list in lists, as deep as the stack": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "objects in objects": ('{"a":' * 400 + "1" + "}" * 400, "nested too deeply"),
    "no JSON": ("{", "cannot be read as JSON"),
    "a key twice": ('{"a": 1, "a": 2}', "has 'a' twice"),
    "a number that never ends": ('{"a": ' + "9" * 10_000 + "}", "cannot be read as JSON"),
    "a list": ("[]", "does not hold a JSON object|has no weight_map|is damaged|is not one of safetensors"),
    "half a character": ('{"a": "\ud800"}', "cannot be read as JSON"),
}


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def _header(text: str, data: int = 64) -> bytes:
    head = text.encode("utf-8", "surrogatepass")
    return len(head).to_bytes(8, "little") + head + bytes(data)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in two files, and what the quantizer made of it."""
    folder = tmp_path_factory.mktemp("hostile")
    kit.write(folder / "model", kit.llama(), shards=2)
    quantize(folder / "model", folder / "out", "w8a16")
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "copy")
    return tmp_path / "copy"


def _said(path: Path, action: Callable[[], Any], kind: type[OverlayError] = QuantizeError) -> str:
    """Return the one sentence that the action ends with; it names the file, and says what to do."""
    with pytest.raises(kind) as caught:
        action()
    text = str(caught.value)
    assert str(path) in text and "Traceback" not in text and text.endswith(".")
    assert any(way in text for way in ("ownload", "Remove", "Mend", "Write", "again")), text
    return text


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("file", [CONFIG, INDEX, SHARD, STATE, description.FILE])
def test_json_that_is_none(folder: Path, file: str, case: str) -> None:
    text, words = TEXTS[case]
    path = folder / ("out" if file in (STATE, description.FILE) else "model") / file
    if file == SHARD:
        path.write_bytes(_header(text))
    else:
        _write(path, text)
    if file == description.FILE:
        said = _said(path, lambda: description.read(path), CheckpointError)
    else:
        said = _said(path, lambda: quantize(folder / "model", folder / "out", "w8a16"))
    assert any(word in said for word in words.split("|")), said


@pytest.mark.parametrize("case", ["a list in lists, as deep as the stack", "a number that never ends"])
def test_prompts_that_are_no_json(tmp_path: Path, case: str) -> None:
    path = tmp_path / "prompts.jsonl"
    _write(path, TEXTS[case][0])
    assert f"{path}:1 cannot be read as JSON" in _said(path, lambda: prompts.read(path))


@pytest.mark.parametrize(
    "value", [None, 1, [], {}, "", ["a"], True, "../model.safetensors", "/etc/passwd", "a\0b", ".."]
)
def test_a_weight_map_of_what_is_no_name(folder: Path, value: Any) -> None:
    path = folder / "model" / INDEX
    path.write_text(json.dumps({"weight_map": {"a.weight": SHARD, "b.weight": value}}))
    said = _said(path, lambda: plan(folder / "model", "w8a16"))
    assert repr(value) in said


@pytest.mark.parametrize("value", [None, 1, [], {}, "a", {"a": 1}])
def test_an_index_without_a_weight_map(folder: Path, value: Any) -> None:
    path = folder / "model" / INDEX
    path.write_text(json.dumps({"weight_map": value}))
    _said(path, lambda: plan(folder / "model", "w8a16"))


TENSOR = {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}
WRONG: dict[str, tuple[Any, str]] = {
    "no object": ([], "dtype None"),
    "no dtype": ({"shape": [4], "data_offsets": [0, 8]}, "dtype None"),
    "a list for a dtype": (TENSOR | {"dtype": ["BF16"]}, r"dtype ['BF16']"),
    "a number for a dtype": (TENSOR | {"dtype": 16}, "dtype 16"),
    "a text for a shape": (TENSOR | {"shape": "4"}, "shape '4'"),
    "texts in a shape": (TENSOR | {"shape": ["4"]}, "shape ['4']"),
    "a negative shape": (TENSOR | {"shape": [-4]}, "shape [-4]"),
    "a fraction in a shape": (TENSOR | {"shape": [4.0]}, "shape [4.0]"),
    "a truth in a shape": (TENSOR | {"shape": [True, 4]}, "shape [True, 4]"),
    "no shape": (TENSOR | {"shape": None}, "shape None"),
    "negative offsets": (TENSOR | {"data_offsets": [-8, 0]}, "data_offsets [-8, 0]"),
    "offsets the wrong way round": (TENSOR | {"data_offsets": [8, 0]}, "data_offsets [8, 0]"),
    "one offset": (TENSOR | {"data_offsets": [0]}, "data_offsets [0]"),
    "texts for offsets": (TENSOR | {"data_offsets": ["0", "8"]}, "data_offsets ['0', '8']"),
    "offsets behind the end": (TENSOR | {"data_offsets": [1000, 1008]}, "ends before the tensor 'x'"),
    "offsets beyond any file": (TENSOR | {"data_offsets": [2**80, 2**80 + 8]}, "ends before the tensor 'x'"),
    "a shape that does not fit": (TENSOR | {"shape": [2**70, 2**70]}, "is not that of its shape"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_entry_of_a_header_that_is_none(tmp_path: Path, case: str) -> None:
    entry, words = WRONG[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(_header(json.dumps({"x": entry})))
    said = _said(path, lambda: header(path))
    assert "'x'" in said and words in said


def test_tensors_that_overlap(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(_header(json.dumps({"x": TENSOR, "y": TENSOR | {"data_offsets": [4, 12]}})))
    assert "the tensors 'x' and 'y' overlap" in _said(path, lambda: header(path))


def test_a_tensor_without_elements_overlaps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    empty = {"dtype": "BF16", "shape": [0, 4], "data_offsets": [8, 8]}
    path.write_bytes(_header(json.dumps({"x": TENSOR, "empty": empty, "y": TENSOR | {"data_offsets": [8, 16]}})))
    assert [entry.name for entry in header(path)] == ["x", "empty", "y"]


@pytest.mark.parametrize("file", [CONFIG, INDEX, SHARD, description.FILE, STATE])
def test_a_pipe_is_not_waited_for(folder: Path, file: str) -> None:
    path = folder / ("out" if file in (STATE, description.FILE) else "model") / file
    path.unlink()
    os.mkfifo(path)
    if file == description.FILE:
        said = _said(path, lambda: description.read(path), CheckpointError)
    else:
        said = _said(path, lambda: quantize(folder / "model", folder / "out", "w8a16"))
    assert "is not a regular file" in said


def test_prompts_from_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "prompts.txt")
    assert "is not a regular file" in _said(tmp_path / "prompts.txt", lambda: prompts.read(tmp_path / "prompts.txt"))


def test_a_pipe_beside_the_model_is_not_copied(folder: Path) -> None:
    os.mkfifo(folder / "model" / "pipe")
    assert "pipe" in quantize(folder / "model", folder / "other", "w8a16").not_copied


_RECORD = {"sha256": "0", "size": 1, "error": 0.0, "worst": ""}
_STATES: list[dict[str, Any]] = [
    {"shards": []},
    {"shards": {SHARD: None}},
    {"shards": {SHARD: {}}},
    {"shards": {SHARD: _RECORD | {"size": "1"}}},
    {"shards": {SHARD: _RECORD | {"error": "none"}}},
    {"shards": {SHARD: _RECORD | {"worst": 1}}},
    {"observed": []},
    {"observed": {"a": [1]}},
    {"observed": {"a": [2, 1]}},
    {"observed": {"a": "ab"}},
    {"calibration": 1},
    {"options": None},
    {"more": 1},
]


@pytest.mark.parametrize("change", _STATES, ids=[json.dumps(state) for state in _STATES])
def test_a_state_that_is_none(folder: Path, change: dict[str, Any]) -> None:
    path = folder / "out" / STATE
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    said = _said(path, lambda: quantize(folder / "model", folder / "out", "w8a16"))
    assert "is damaged" in said


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
_ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["BF16", "F32", "I8", "NEW"]) | _JSON,
        "shape": st.lists(st.integers(-2, 9), max_size=3) | _JSON,
        "data_offsets": st.lists(st.integers(-9, 99), min_size=2, max_size=2) | _JSON,
    },
)


@given(data=st.dictionaries(st.sampled_from(["a.weight", "b.weight", "__metadata__"]), _ENTRIES | _JSON) | _JSON)
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_header_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.mktemp("header") / "model.safetensors"
    path.write_bytes(_header(json.dumps(data)))
    try:
        entries = header(path)
    except QuantizeError as error:
        assert str(path) in str(error)
    else:
        assert all(entry.size >= 0 and entry.start >= 0 for entry in entries)


@given(data=st.dictionaries(st.sampled_from(["a.weight", "b.bias", "norm.bias", "x.quant_type", "c"]), _JSON) | _JSON)
@hypothesis_settings(max_examples=300, deadline=None)
def test_any_description_is_read_or_refused(data: Any) -> None:
    try:
        found = description.parse(json_file.parse(json.dumps(data)), "here.json")
    except (CheckpointError, ValueError) as error:
        assert "here.json" in str(error) or "JSON" in str(error)
    else:
        assert all(isinstance(type_, str) for type_ in found.weights.values())
