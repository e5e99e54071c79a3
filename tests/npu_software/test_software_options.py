"""What was asked for, by variables and by the options of the command, and each wrong value."""

from __future__ import annotations

from pathlib import Path

import pytest

from ascend_overlay.commands import software_npu
from ascend_overlay.errors import ConfigError
from ascend_overlay.npu.software.options import Options

ASKED = {"ASCEND_OVERLAY_NPU": "software"}


@pytest.mark.parametrize("value", ["", "0", "no", "off", "false"])
def test_nothing_is_asked_for(value: str) -> None:
    assert Options.from_env({}) is None
    assert Options.from_env({"ASCEND_OVERLAY_NPU": value, "ASCEND_OVERLAY_NPU_DEVICES": "many"}) is None


def test_what_is_asked_for_can_be_handed_on(tmp_path: Path) -> None:
    options = Options(devices=2, memory=512 << 20, report=str(tmp_path))
    assert Options.from_env(ASKED) == Options(devices=1, memory=8 << 30, report=None)
    assert Options.from_env(options.to_env()) == options
    # The runtime reads a number of bytes.
    assert options.to_env()["ASCEND_OVERLAY_NPU_MEMORY"] == str(512 << 20)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 << 30),
        ("512MiB", 512 << 20),
        ("3G", 3 << 30),
        ("1TiB", 1 << 40),
        ("4096 KiB", 4 << 20),
        ("2097152", 2 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    options = Options.from_env({**ASKED, "ASCEND_OVERLAY_NPU_MEMORY": text})
    assert options is not None and options.memory == size


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ASCEND_OVERLAY_NPU", "sofware", "takes 'software'. Did you mean 'software'?"),
        ("ASCEND_OVERLAY_NPU", "ascend910b", "takes 'software'"),
        ("ASCEND_OVERLAY_NPU_DEVICES", "0", "a number of devices from 1 to 64"),
        ("ASCEND_OVERLAY_NPU_DEVICES", "65", "a number of devices from 1 to 64"),
        ("ASCEND_OVERLAY_NPU_DEVICES", "-1", "a number of devices from 1 to 64"),
        ("ASCEND_OVERLAY_NPU_DEVICES", "two", "a number of devices from 1 to 64"),
        ("ASCEND_OVERLAY_NPU_MEMORY", "much", "a size of memory, such as 8GiB"),
        ("ASCEND_OVERLAY_NPU_MEMORY", "-8GiB", "a size of memory, such as 8GiB"),
        ("ASCEND_OVERLAY_NPU_MEMORY", "8GB", "a size of memory, such as 8GiB"),
        ("ASCEND_OVERLAY_NPU_MEMORY", "0", "a size of memory, such as 8GiB"),
        ("ASCEND_OVERLAY_NPU_MEMORY", "8", "give 2MiB or more"),
    ],
)
def test_a_variable_that_means_nothing(variable: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        Options.from_env({**ASKED, variable: value})
    assert f"{variable} is {value!r}" in str(error.value) and words in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--npu", "hardware"), "--npu is 'hardware'; it takes 'software'"),
        (("--npu", "software", "--npu-devices", "none"), "--npu-devices is 'none'"),
        (("--npu", "software", "--npu-memory", "huge"), "--npu-memory is 'huge'"),
        (("--npu-devices", "2"), "--npu-devices is an option of the software NPU: add --npu software"),
        (("--npu-memory", "2GiB"), "--npu-memory is an option of the software NPU"),
        (("--npu-report", "here"), "--npu-report is an option of the software NPU"),
    ],
)
def test_an_option_that_means_nothing(python: object, arguments: tuple[str, ...], words: str) -> None:
    done = python.command("run", *arguments, "true", check=False)  # type: ignore[attr-defined]
    assert done.returncode == 2
    assert words in done.stderr


def test_options_stand_above_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Built:
        libraries = tmp_path

    monkeypatch.setattr(software_npu.build, "built", Built)
    monkeypatch.setenv("ASCEND_OVERLAY_NPU", "software")
    monkeypatch.setenv("ASCEND_OVERLAY_NPU_DEVICES", "4")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    found = software_npu.variables(None, None, "1GiB", None)
    assert (found["ASCEND_OVERLAY_NPU_DEVICES"], found["ASCEND_OVERLAY_NPU_MEMORY"]) == ("4", str(1 << 30))
    assert found["LD_LIBRARY_PATH"] == f"{tmp_path}:/somewhere"
    assert software_npu.variables("software", "2", None, "here")["ASCEND_OVERLAY_NPU_DEVICES"] == "2"
    monkeypatch.setenv("ASCEND_OVERLAY_NPU", "off")
    assert software_npu.variables("software", None, None, None)["ASCEND_OVERLAY_NPU_DEVICES"] == "4"
    monkeypatch.delenv("ASCEND_OVERLAY_NPU")
    assert software_npu.variables(None, None, None, None) == {}
