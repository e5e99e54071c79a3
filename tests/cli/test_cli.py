"""The command, as a user meets it: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

PLUGIN = """
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl
    one = Overlay("one", reason="a test")
    one.wrap("{target}")(lambda wrapped, instance, args, kwargs: f"<{{wrapped()}}>")
    @hookimpl
    def ascend_overlay_overlays(): return [one]
"""
LOAD = ("--load", "plug", "--only", "one")


@pytest.fixture(autouse=True)
def _packages(site: Any) -> None:
    site.vllm("0.26.0+cpu")
    site.write({"lib.py": "def run(): return 'stock'\n", "plug.py": PLUGIN.format(target="lib:run")})


def refused(done: Any, status: int = 1) -> str:
    """Return the sentence on stderr of a command that was refused without a traceback."""
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert done.stderr.startswith("Error: ")
    return " ".join(done.stderr.removeprefix("Error: ").split())


USE = "import vllm, lib; print(lib.run())"


def test_run(python: Any) -> None:
    done = python.command("run", *LOAD, "--ledger", "ledgers", "python", "-c", USE, env=with_python())
    assert done.stdout == "<stock>\n" and done.stderr == ""
    shown = python.command("ledger", "ledgers").stdout
    assert "one" in shown and "lib:run" in shown and "applied" in shown
    (ledger,) = json.loads(python.command("ledger", "--json", "ledgers").stdout)
    assert next(entry for entry in ledger["entries"] if entry["overlay"] == "one")["state"] == "applied"


def with_python() -> dict[str, str]:
    """Let the command "python" be the interpreter of the tests."""
    import sys

    return {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


DISPLACE = (
    "import vllm, lib; lib.run = lambda: 'theirs'; import ascend_overlay as a; print(a.ledger().of('one')[0].state)"
)


@pytest.mark.parametrize("foreign", ["error", "warn", "accept"])
def test_run_says_what_changes_of_others_are(python: Any, foreign: str) -> None:
    code = f"{DISPLACE}; a.api.look()"
    done = python.command(
        "run", *LOAD, "--foreign", foreign, "python", "-c", code, env=with_python(), check=foreign != "error"
    )
    assert done.stdout == "displaced\n"
    assert ("stands in place of this patch at lib.run" in done.stderr) is (foreign != "accept")
    assert ("ForeignError: " in done.stderr) is (foreign == "error") is (done.returncode != 0)


def test_run_passes_arguments_and_status_on(python: Any) -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(7)"
    done = python.command("run", *LOAD, "python", "-c", code, "--only", "x", "--", "-v", env=with_python(), check=False)
    assert done.stdout == "['--only', 'x', '--', '-v']\n" and done.returncode == 7


def test_run_chains_to_a_sitecustomize_that_was_there(python: Any, site: Any) -> None:
    site.write({"sitecustomize.py": "print('theirs')\n"})
    done = python.command("run", *LOAD, "python", "-c", USE, env=with_python())
    # Once for the command itself, once for what it runs.
    assert done.stdout == "theirs\ntheirs\n<stock>\n"


def test_run_reaches_children_of_children(python: Any) -> None:
    code = f"import subprocess, sys; subprocess.run(['sh', '-c', sys.executable + ' -c \"{USE}\"'])"
    assert python.command("run", *LOAD, "python", "-c", code, env=with_python()).stdout == "<stock>\n"


BAD = {
    "unknown overlay": (
        ("run", "--only", "layernrom", "true"),
        "there is no overlay 'layernrom' (in --only); there are: ",
        "mean 'layernorm'",
    ),
    "unknown excluded": (("list", "--exclude", "nothing"), "there is no overlay 'nothing' (in --exclude); there are: "),
    "preference without a name": (
        ("run", "--prefer", "lib:run", "true"),
        "--prefer has the entry 'lib:run'; each entry is TARGET=OVERLAY.",
    ),
    "preference of nothing": (
        ("list", *LOAD, "--prefer", "lib:rnu=one"),
        "overlay 'one' (plugin 'plug') is preferred for 'lib:rnu' (--prefer), which it does not decide",
    ),
    "module that is not there": (
        ("list", "--load", "plgu"),
        "plugin 'plgu' cannot be loaded",
        "Correct the name in --load, or put",
    ),
    "plugin that is not there": (
        ("run", "--plugins", "plgu", "true"),
        "--plugins names 'plgu', but no installed plugin or distribution is called that; there are: ",
    ),
    "command that is not there": (
        ("run", *LOAD, "no-such-command"),
        "'no-such-command' cannot be run: No such file or directory.",
    ),
    "folder without ledgers": (
        ("ledger", "empty"),
        "there is no ledger in 'empty'; write one with ascend-overlay run --ledger empty COMMAND.",
    ),
    "folder with something else": (("ledger", "other"), "other.json' is not a ledger", "alone."),
    "ledger folder that is a file": (
        ("run", "--ledger", "lib.py", "true"),
        "ledger folder",
        "lib.py' cannot be written to (File exists); give --ledger a folder that this process may write to",
    ),
    "ledger folder that is a file, beside a plugin": (
        ("run", *LOAD, "--ledger", "lib.py", "true"),
        "lib.py' cannot be written to (File exists); give --ledger a folder",
    ),
    "lock that is not there": (
        ("run", *LOAD, "--lock", "nothing.lock", "true"),
        "--lock: there is no lock 'nothing.lock': correct the path, or write it anew",
    ),
    "lock that is none": (("run", "--lock", "lib.py", "true"), "--lock: the lock 'lib.py' "),
}
USAGE = {
    "unknown overlay",
    "unknown excluded",
    "preference without a name",
    "preference of nothing",
    "plugin that is not there",
    "module that is not there",
    "ledger folder that is a file",
    "ledger folder that is a file, beside a plugin",
    "lock that is not there",
    "lock that is none",
}
"""Those that have status 2."""


@pytest.mark.parametrize("kind", list(BAD))
def test_mistake_is_a_sentence(python: Any, site: Any, kind: str) -> None:
    (site.folder / "empty").mkdir()
    (site.folder / "other").mkdir()
    (site.folder / "other" / "other.json").write_text("{}")
    arguments, *parts = BAD[kind]
    text = refused(python.command(*arguments, check=False), 2 if kind in USAGE else 1)
    for part in parts:
        assert part in text, text


IN_THE_COMMAND = {
    "module that is not there": (
        ("--load", "plgu"),
        "plugin 'plgu' cannot be loaded: there is no module 'plgu'. Correct the name in --load, or put the folder of",
    ),
    "overlay that is not there": (("--load", "plug", "--only", "oen"), "there is no overlay 'oen' (in --only); there"),
    "required overlay that is not there": (
        ("--load", "plug", "--require", "oen"),
        "there is no overlay 'oen' (in --require); there",
    ),
    "preference of nothing": (
        (*LOAD, "--prefer", "lib:rnu=one"),
        "overlay 'one' (plugin 'plug') is preferred for 'lib:rnu' (--prefer), which it does not decide",
    ),
}


@pytest.mark.parametrize("kind", IN_THE_COMMAND)
def test_a_mistake_that_the_command_finds_is_a_sentence_too(python: Any, kind: str) -> None:
    """What only its own search path can tell; whoever catches the error sees it as any other."""
    options, part = IN_THE_COMMAND[kind]
    done = python.command("run", *options, "python", "-c", USE, env=with_python(), check=False)
    assert refused(done, 2).startswith(part)
    caught = f"try: {USE}\nexcept Exception as error: print(type(error).__name__)"
    done = python.command("run", *options, "python", "-c", caught, env=with_python())
    assert done.stdout in ("PluginError\n", "ConfigError\n") and done.stderr == ""
    # A program that switches them on itself asks for an exception.
    code = "import ascend_overlay; ascend_overlay.enable(load=['plgu'])"
    done = python("-c", code, check=False)
    assert done.returncode == 1 and "Correct the name in load=, or" in done.stderr and "Traceback" in done.stderr


TWO = """
    from ascend_overlay import Overlay
    from ascend_overlay.hooks import hookimpl
    overlays = [Overlay(name, reason="a test") for name in ("one", "two")]
    for overlay in overlays: overlay.replace("lib:run")(lambda: "ours")
    @hookimpl
    def ascend_overlay_overlays(): return overlays
"""
ADVICE = {
    "options": ("--prefer lib:run=one, leave one out with --exclude, or let", ["enable(", "ASCEND_OVERLAY"]),
    "variables": (
        "ASCEND_OVERLAY_PREFER=lib:run=one, leave one out with ASCEND_OVERLAY=-NAME, or let",
        ["enable(", "--prefer"],
    ),
    "arguments": (
        "enable(prefer={'lib:run': 'one'}) or ASCEND_OVERLAY_PREFER=lib:run=one, leave one out with exclude=, or let",
        ["--prefer"],
    ),
}


@pytest.mark.parametrize("by", ADVICE)
def test_advice_is_what_the_user_can_give(python: Any, site: Any, by: str) -> None:
    site.write({"plug.py": TWO})
    part, not_said = ADVICE[by]
    machinery = "--exclude", "roles,caches,registry,layer_registry,vllm_cpu"
    if by == "options":
        done = python.command("run", "--load", "plug", *machinery, "python", "-c", USE, env=with_python(), check=False)
    elif by == "variables":
        code = "from ascend_overlay import api; api.enable_from_environment()"
        done = python("-c", code, env={"ASCEND_OVERLAY": "one,two", "ASCEND_OVERLAY_LOAD": "plug"}, check=False)
    else:
        code = "import ascend_overlay as a; a.enable('one', 'two', load=['plug'])"
        done = python.command("run", "python", "-c", code, env=with_python(), check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert f"Choose one: {part}" in last, done.stderr
    for words in not_said:
        assert words not in last.partition("Choose one: ")[2]


def test_a_name_in_the_environment_that_means_nothing(python: Any) -> None:
    for command in (("list",), ("run", "true")):
        text = refused(python.command(*command, env={"ASCEND_OVERLAY_STRIKT": "0"}, check=False), 2)
        assert text.startswith(
            "the environment has ASCEND_OVERLAY_STRIKT, which is no setting; there are ASCEND_OVERLAY,"
        )
        assert "Did you mean 'ASCEND_OVERLAY_STRICT'" in text and text.endswith("Correct the name, or unset it.")


def test_mistake_in_the_environment_is_a_sentence(python: Any) -> None:
    done = python.command("list", env={"ASCEND_OVERLAY_STRICT": "perhaps"}, check=False)
    assert refused(done, 2) == "ASCEND_OVERLAY_STRICT is 'perhaps'; it takes 1 or 0."


def test_misspelt_target_in_a_plugin(python: Any, site: Any) -> None:
    site.write({"plug.py": PLUGIN.format(target="vllm.nothing:run")})
    text = refused(python.command("list", *LOAD, check=False))
    assert (
        "overlay 'one' (plugin 'plug') does not apply to vLLM 0.26.0+cpu: wrap of vllm.nothing:run: the module "
        "'vllm.nothing' does not exist" in text
    )


def test_error_inside_the_command_ends_it_with_the_sentence(python: Any, site: Any) -> None:
    """Names inside a module cannot be checked before it is imported; then the program itself stops."""
    site.write({"plug.py": PLUGIN.format(target="lib:rnu")})
    done = python.command("run", *LOAD, "python", "-c", USE, env=with_python(), check=False)
    assert done.returncode == 1 and done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ascend_overlay.errors.TargetError: overlay 'one' (plugin 'plug') does not apply to vLLM 0.26.0"
    )
    assert "Did you mean 'run'" in last


def test_list_shows_what_would_happen(python: Any) -> None:
    out = python.command("list", *LOAD).stdout
    assert "lib:run" in out and "pending" in out
    entries = json.loads(python.command("list", *LOAD, "--json").stdout)["entries"]
    assert [(entry["overlay"], entry["state"]) for entry in entries if not entry["machinery"]] == [("one", "pending")]
    # vLLM's release here is one that the machinery is not for.
    assert {(entry["state"], entry["cause"]) for entry in entries if entry["machinery"]} == {("skipped", "release")}


OFF = {"ASCEND_OVERLAY": "0"}


def test_the_variable_that_switches_off_beats_the_commands(python: Any) -> None:
    done = python.command("run", *LOAD, "python", "-c", USE, env=with_python() | OFF)
    assert done.stdout == "stock\n"
    assert done.stderr == "ASCEND_OVERLAY=0 switches the overlays off: the command runs without them.\n"
    listed = python.command("list", *LOAD, "--json", env=OFF)
    assert json.loads(listed.stdout)["entries"] == []
    assert listed.stderr == "ASCEND_OVERLAY=0 switches the overlays off: none would be enabled.\n"
    # Who says it on the command line knows it.
    assert python.command("run", "--no-overlays", "python", "-c", USE, env=with_python() | OFF).stderr == ""


REQUIRED = " Required, and not in force: one.\n"


@pytest.mark.parametrize("by", ["option", "variable"])
def test_the_variable_that_switches_off_beats_what_is_required(python: Any, by: str) -> None:
    """It is the emergency stop: nothing else has to be found and taken away first."""
    options, more = (["--require", "one"], {}) if by == "option" else ([], {"ASCEND_OVERLAY_REQUIRE": "one"})
    environment = with_python() | OFF | more
    done = python.command("run", *LOAD, *options, "python", "-c", USE, env=environment)
    off = "ASCEND_OVERLAY=0 switches the overlays off"
    assert done.stdout == "stock\n" and done.stderr == f"{off}: the command runs without them.{REQUIRED}"
    listed = python.command("list", *LOAD, *options, "--json", env=environment)
    assert json.loads(listed.stdout)["entries"] == []
    assert listed.stderr == f"{off}: none would be enabled.{REQUIRED}"
    # What names nothing is no reason to start nothing, either.
    done = python.command("run", "--require", "nothing", "python", "-c", USE, env=environment)
    assert done.stdout == "stock\n" and "not in force: " in done.stderr


@pytest.mark.parametrize("loads", [1, 2])
def test_a_process_that_no_command_started_says_what_is_off(python: Any, loads: int) -> None:
    code = "import vllm; from ascend_overlay.hooks.activation import vllm_plugin; import lib; print(lib.run())"
    code += "; vllm_plugin()" * loads
    required = {"ASCEND_OVERLAY_REQUIRE": "one", "ASCEND_OVERLAY_LOAD": "plug"}
    done = python("-c", code, env=OFF | required)
    off = "ASCEND_OVERLAY=0 switches the overlays off: vLLM runs without them."
    assert done.stdout == "stock\n" and done.stderr == f"{off}{REQUIRED}"
    assert python("-c", code, env=OFF).stderr == ""


@pytest.mark.parametrize("asked", [{}, {"ASCEND_OVERLAY": ""}, {"ASCEND_OVERLAY_STRICT": "0"}])
def test_what_is_required_is_missed_where_nobody_asks_for_overlays(python: Any, asked: dict[str, str]) -> None:
    """Who forgets the one variable that switches on has said all the same what must not be missing."""
    required = asked | {"ASCEND_OVERLAY_REQUIRE": "one", "ASCEND_OVERLAY_LOAD": "plug"}
    code = "import vllm; from ascend_overlay.hooks.activation import vllm_plugin; import lib; vllm_plugin()"
    done = python("-c", code, env=required, check=False)
    sentence = "ASCEND_OVERLAY_REQUIRE requires one, and ASCEND_OVERLAY is not set: vLLM would run without overlays."
    assert done.returncode == 1 and sentence in done.stderr
    assert python("-c", code, env=required | {"ASCEND_OVERLAY_REQUIRE": " , "}).stderr == ""
    enabled = "import ascend_overlay as a; a.enable(); " + code + "; print(lib.run())"
    assert python("-c", enabled, env=required).stdout == "<stock>\n"
    assert "is not set" not in python("-c", code, env=required | {"ASCEND_OVERLAY": "1"}).stderr


def test_a_program_that_enables_some_in_spite_of_the_switch_has_those(python: Any) -> None:
    code = "import ascend_overlay as a; a.enable(only=['roles']); print(a.api.enabled_names())"
    done = python("-c", code, env=OFF | {"ASCEND_OVERLAY_REQUIRE": "one"}, check=False)
    assert "'one'" not in done.stdout + done.stderr


def test_what_is_required_is_not_switched_off(python: Any) -> None:
    done = python.command("run", "--no-overlays", "--require", "layernorm", "true", env=with_python(), check=False)
    sentence = "--require requires overlays, and --no-overlays switches them off; leave one of the two out."
    assert refused(done, 2) == sentence
    asked = with_python() | {"ASCEND_OVERLAY_REQUIRE": "one"}
    done = python.command("run", "--no-overlays", "python", "-c", USE, env=asked)
    assert done.stdout == "stock\n" and done.stderr == f"--no-overlays: the command runs without overlays.{REQUIRED}"
    for option in ("--only", "--require"):
        done = python.command("run", "--load", "plug", option, "", "true", env=with_python(), check=False)
        assert refused(done, 2) == f"{option} names no overlay; leave the option out."
        done = python.command("run", *LOAD, option, "one", option, "", "true", env=with_python(), check=False)
        assert refused(done, 2) == f"{option} is given more than once, and once it names nothing; leave that one out."


def test_options_of_overlays_that_are_switched_off_say_so(python: Any) -> None:
    options = ("--no-overlays", "--only", "one", "--ledger", "ledgers", "--no-trace")
    done = python.command("run", *options, "python", "-c", USE, env=with_python())
    said = "--no-overlays: the command runs without overlays. Without effect: --only, --ledger, --trace.\n"
    assert (done.stdout, done.stderr) == ("stock\n", said)


def test_options_win_over_variables(python: Any) -> None:
    said = {"ASCEND_OVERLAY_TRACE": "1", "ASCEND_OVERLAY_WEIGHT_NZ": "all", "ASCEND_OVERLAY_LEDGER": "elsewhere"}
    options = ("--no-trace", "--weight-nz", "quantized", "--ledger", "")
    show = "from ascend_overlay.settings import Settings as S; s = S.from_env(); print(s.trace, s.weight_nz, s.ledger)"
    done = python.command("run", *LOAD, *options, "python", "-c", show, env=with_python() | said)
    assert done.stdout == "False quantized None\n"


def test_list_writes_no_ledger_file(python: Any, site: Any) -> None:
    python.command("list", *LOAD, "--ledger", "ledgers")
    assert not list(site.folder.glob("ledgers/*"))


def test_list_without_strictness_shows_what_fails(python: Any, site: Any) -> None:
    site.write({"plug.py": PLUGIN.format(target="no_such_module:run")})
    done = python.command("list", *LOAD, "--no-strict")
    assert "failed" in done.stdout and "'no_such_module' is not installed" in " ".join(done.stdout.split())


def test_built_in_overlays_can_be_listed_without_importing_vllm(python: Any) -> None:
    code = (
        "import sys; sys.path.remove(''); from ascend_overlay.commands.cli import main; "
        "main(['list'], standalone_mode=False)"
    )
    real = {"PYTHONPATH": os.pathsep.join(python.search[1:])}
    if (
        python(
            "-c", "import sys, importlib.util as u; sys.path.remove(''); print(u.find_spec('vllm'))", env=real
        ).stdout
        == "None\n"
    ):
        pytest.skip("no vLLM is installed")
    done = python("-X", "importtime", "-c", code, env=real)
    assert "layernorm" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "pluggy" in imported, "the imports are seen"
    assert not {"vllm", "torch", "transformers", "torch_npu"} & imported


def test_version_and_help(python: Any) -> None:
    assert python.command("--version").stdout.startswith("ascend-overlay, version ")
    out = python.command("-h").stdout
    for name in ("run", "autoload", "list", "ledger", "demo"):
        assert f"  {name} " in out


def test_an_option_that_is_not_there_is_not_taken_for_the_command(python: Any) -> None:
    done = python.command("run", "--lddger", "x", "true", check=False)
    assert done.returncode == 2 and "No such option '--lddger'. Did you mean '--ledger'?" in done.stderr


def test_autoload_status(python: Any) -> None:
    assert python.command("autoload", "status").stdout.startswith("autoload is o")
    done = python.command("autoload", "maybe", check=False)
    assert done.returncode == 2 and "'maybe' is not one of" in done.stderr
