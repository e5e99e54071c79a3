"""A virtual environment of a test's own, in which distributions can be installed without touching the one under test.

It sees the packages of the environment that runs the tests (vLLM, torch, ascend_overlay), so nothing is installed twice
and nothing is downloaded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from shutil import copytree, ignore_patterns

EXAMPLES = Path(__file__).parents[1] / "examples"

_SCRIPTS = {
    "ascend-overlay": "from ascend_overlay.commands.cli import main\nmain()\n",
    "vllm": "from vllm.entrypoints.cli.main import main\n\nif __name__ == '__main__':\n    main()\n",
}


class Scratch:
    """A virtual environment in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        self.python = self.bin / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        site = next((folder / "venv" / "lib").glob("python*")) / "site-packages"
        # addsitedir, not a bare path, so that .pth files of editable installs count there, too.
        homes = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
        (site / "zz_environment_under_test.pth").write_text(
            "".join(f"import site; site.addsitedir({home!r})\n" for home in homes)
        )
        for name, text in _SCRIPTS.items():
            script = self.bin / name
            script.write_text(f"#!{self.python}\n{text}")
            script.chmod(0o755)

    def environment(self) -> dict[str, str]:
        """Return the environment of processes that run here: offline, cached here, no overlays asked for."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ASCEND_OVERLAY", "PYTHON", "VLLM_", "PIP_", "ACME_"))
        }
        return inherited | {
            "PATH": os.pathsep.join([str(self.bin), inherited.get("PATH", "")]),
            "VIRTUAL_ENV": str(self.bin.parent),
            "VLLM_CACHE_ROOT": str(self.folder / "cache"),
            "VLLM_CPU_KVCACHE_SPACE": "1",
            # More workers than memory nodes are refused otherwise.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            # pip builds with the setuptools that is there ("no build isolation" is spelt 0), and downloads nothing.
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "COLUMNS": "120",
        }

    def run(
        self,
        *command: str | Path,
        env: dict[str, str] | None = None,
        check: bool = True,
        timeout: float = 300,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; its whole process group is gone afterwards, whatever happens."""
        process = subprocess.Popen(
            [str(part) for part in command],
            env=self.environment() | (env or {}),
            cwd=cwd or self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=timeout)
        finally:
            _end_group(process.pid)
        done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
        if check:
            assert done.returncode == 0, f"{done.args}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
        return done

    def install(self, source: Path) -> None:
        """Install the distribution in the folder `source`, from a copy, since building leaves files behind."""
        copy = self.folder / "sources" / source.name
        if not copy.exists():
            copytree(source, copy, ignore=ignore_patterns("build", "*.egg-info", "__pycache__"))
        self.run(self.python, "-m", "pip", "install", "--quiet", copy)

    def uninstall(self, name: str) -> None:
        """Uninstall the distribution `name`."""
        self.run(self.python, "-m", "pip", "uninstall", "--quiet", "--yes", name)


def _end_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
