"""What commands say."""

from typing import Any

from rich.console import Console

from inspect_gan.errors import printable


class PlainConsole(Console):
    """Shows text as it is: no markup, no wrapping, no colours by content; whatever names and settings it holds, a
    terminal has nothing to obey in it. Rich's own objects (tables, bars) are shown as ever."""

    def __init__(self, **options: Any):
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*map(_harmless, objects), **options)


def _harmless(thing: Any) -> Any:
    """Text, its own ends of lines kept. Names within it are escaped by whoever puts them there."""
    return "\n".join(map(printable, thing.split("\n"))) if isinstance(thing, str) else thing
