"""Names of detectors and objectives. Each registers itself; its package is searched on first use."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from inspect_gan.errors import InspectGanError

T = TypeVar("T")


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """A hint to append to an error: the nearest known name, or the list of all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names) or 'none'}"


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class Registry(Generic[T]):
    """Classes of one kind by name.

    kind: what is registered, for messages. package: every module in it is imported before the first look-up, so
    a new class costs one file and no list to extend.
    """

    def __init__(self, kind: str, package: str):
        self.kind = kind
        self._package = package
        self._classes: dict[str, type[T]] = {}
        self._searched = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator. Raises ValueError when the name is taken by another class."""

        def add(cls: type[T]) -> type[T]:
            taken = self._classes.get(name)
            # The same class again is a reloaded module.
            if taken is not None and _full_name(taken) != _full_name(cls):
                raise ValueError(f"{self.kind} name '{name}' is already taken by {_full_name(taken)}")
            self._classes[name] = cls
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return add

    def names(self) -> list[str]:
        self._search()
        return sorted(self._classes)

    def get(self, name: str) -> type[T]:
        """Raises InspectGanError with the nearest name when unknown."""
        self._search()
        if name not in self._classes:
            raise InspectGanError(f"unknown {self.kind} '{name}': {did_you_mean(name, self._classes)}")
        return self._classes[name]

    def _search(self) -> None:
        if not self._searched:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")
            self._searched = True
