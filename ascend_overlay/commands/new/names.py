"""Names that a new plugin can have: of a module, an overlay and a distribution at once, and nobody else's."""

from __future__ import annotations

import keyword
import re
import sys

from ascend_overlay import api, versions
from ascend_overlay.errors import ConfigError
from ascend_overlay.settings import FALSE, Settings
from ascend_overlay.source.modules import exists

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_LONGEST = 60


def see(name: str) -> None:
    """See that a new plugin can be called `name`.

    Raises:
        ConfigError: it cannot; the sentence says why.
    """
    if not _NAME.match(name) or len(name) > _LONGEST:
        hint = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
        example = f" Did you mean {hint!r}?" if _NAME.match(hint) and len(hint) <= _LONGEST else ""
        raise ConfigError(
            f"{name!r} cannot name a plugin, which is a module and an overlay: use lower case letters, digits and "
            f"underscores, a letter first, {_LONGEST} at most.{example}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in FALSE | {"true", "yes", "on"}:
        raise ConfigError(f"{name!r} is a word of Python's or of the setting ASCEND_OVERLAY; choose another name.")
    if name in sys.stdlib_module_names or exists(name) or name == "tests":
        raise ConfigError(
            f"there is a module {name!r} here, which a plugin of that name would hide; choose another name."
        )
    distribution = name.replace("_", "-")
    if (version := versions.distribution_version(distribution)) is not None:
        raise ConfigError(f"a distribution {distribution} {version} is installed here; choose another name.")
    api.check_settings(Settings.from_env().updated(strict=False))
    if name in api.overlays():
        raise ConfigError(f"there is an overlay {name!r} here; choose another name.")
