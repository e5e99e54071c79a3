"""Kinds of patch that the synthetic scene has beside those that it is made of: each is one entry here.

What this version of ascend_overlay does not have is left out. The name of the overlay is what its patch shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ascend_overlay import Overlay

from .scenes import DECIDES, WRAPS, Place, Probe


@dataclass(frozen=True)
class Kind:
    """An overlay with one kind of patch.

    Attributes:
        name: of the overlay.
        kind: the method of Overlay that declares it.
        library: what the patched module has for it.
        plugin: what declares it; the overlay is called `overlay` there.
        target: the target.
        decides: whether the patch decides the target.
        probes: how it is seen; the first is the target itself.
        place: a place at which a program may change the target by hand.
    """

    name: str
    kind: str
    library: str
    plugin: str
    target: str
    decides: bool
    probes: tuple[Probe, ...]
    place: Place | None = None


def _seen(held: str, use: str, target: str) -> tuple[Probe, ...]:
    return (Probe(held, use, (target,)),)


_ALL = (
    Kind(
        name="edit_e",
        kind="edit",
        library="def long():\n    word = 'long'\n    return word\nLONG = {long: 1}\n",
        plugin="overlay.edit('shop.lib:long', find=\"word = 'long'\", put=\"word = 'edit_e(long)'\")",
        target="shop.lib:long",
        decides=WRAPS,
        probes=(
            Probe("lib.long", "()", ("shop.lib:long",)),
            Probe("next(iter(lib.LONG))", "()", ("shop.lib:long",), ("LONG",)),
        ),
        place=Place("lib", "long", "function"),
    ),
    Kind(
        name="field_o",
        kind="field",
        library="import dataclasses\n@dataclasses.dataclass\nclass Options:\n    size: str = 'small'\n"
        "@dataclasses.dataclass\nclass MoreOptions(Options):\n    colour: str = 'red'\n",
        plugin="overlay.field('shop.lib:Options.size', default='field_o')",
        target="shop.lib:Options.size",
        decides=DECIDES,
        probes=(
            Probe("lib.Options", "().size", ("shop.lib:Options.size",)),
            Probe("lib.MoreOptions", "().size", ("shop.lib:Options.size",), ("MoreOptions",)),
        ),
    ),
    Kind(
        name="member_c",
        kind="member",
        library="import enum\nclass Colour(enum.Enum):\n    RED = 'red'\n",
        plugin="overlay.member('shop.lib:Colour.BLUE', 'member_c')",
        target="shop.lib:Colour.BLUE",
        decides=DECIDES,
        probes=_seen("lib", ".Colour.__members__.get('BLUE', lib.Colour.RED).value", "shop.lib:Colour.BLUE"),
    ),
    Kind(
        name="entry_n",
        kind="entry",
        library="NAMES = ['first']\n",
        plugin="overlay.entry('shop.lib:NAMES', 'entry_n')",
        target="shop.lib:NAMES",
        decides=DECIDES,
        probes=_seen("lib", ".NAMES[-1]", "shop.lib:NAMES"),
    ),
    Kind(
        name="remove_l",
        kind="remove",
        library="LEGACY = 'legacy'\n",
        plugin="overlay.remove('shop.lib:LEGACY')",
        target="shop.lib:LEGACY",
        decides=DECIDES,
        probes=_seen("lib", ".__dict__.get('LEGACY', 'remove_l')", "shop.lib:LEGACY"),
    ),
    Kind(
        name="remove_r",
        kind="remove",
        library="ROWS = {'old': 'kept'}\n",
        plugin="overlay.remove('shop.lib:ROWS', key='old')",
        target="shop.lib:ROWS",
        decides=DECIDES,
        probes=_seen("lib", ".ROWS.get('old', 'remove_r')", "shop.lib:ROWS"),
    ),
    Kind(
        name="call_s",
        kind="call",
        library="STATE = ['none']\n",
        plugin="def do():\n    import shop.lib as lib\n    lib.STATE.append('call_s')\n    return lib.STATE\n"
        "def undo(state):\n    if 'call_s' in state:\n        state.remove('call_s')\n"
        "overlay.call('shop.lib', do=do, undo=undo)",
        target="shop.lib",
        decides=DECIDES,
        probes=_seen("lib", ".STATE[-1]", "shop.lib"),
    ),
    Kind(
        name="make_p",
        kind="factory",
        library="class Parcel:\n    def weight(self): return 'weight'\n",
        plugin="overlay.factory('shop.lib:Parcel', 'shop_implementations:make_parcel')",
        target="shop.lib:Parcel",
        decides=WRAPS,
        probes=_seen("lib.Parcel", "().weight()", "shop.lib:Parcel"),
    ),
)

KINDS = tuple(kind for kind in _ALL if hasattr(Overlay, kind.kind))
