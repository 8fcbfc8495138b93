"""Registration by decorator, search of a package on first use, messages."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inspect_gan.detector import detectors
from inspect_gan.errors import InspectGanError
from inspect_gan.objectives import objectives
from inspect_gan.registry import Registry, did_you_mean

PACKAGE = "a_package_of_animals"
MODULE = """
import {package} as package

@package.registry.register("{name}")
class {cls}:
    pass
"""


@pytest.fixture
def animals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry over a package of two modules that register `cat` and `dog`."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("registry = None\n")
    for name in ("cat", "dog"):
        (folder / f"{name}.py").write_text(MODULE.format(package=PACKAGE, name=name, cls=name.title()))
    monkeypatch.syspath_prepend(tmp_path)
    registry: Registry = Registry("animal", PACKAGE)
    monkeypatch.setattr(importlib.import_module(PACKAGE), "registry", registry)
    yield registry
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_modules_are_found_without_a_list(animals: Registry) -> None:
    assert animals.get("dog").__name__ == "Dog"  # the first look-up searches
    assert animals.names() == ["cat", "dog"]
    assert animals.get("cat").name == "cat"


def test_nothing_is_imported_before_the_first_look_up(animals: Registry) -> None:
    assert f"{PACKAGE}.cat" not in sys.modules
    animals.names()
    assert f"{PACKAGE}.cat" in sys.modules


def test_unknown_name_gets_the_nearest_or_all(animals: Registry) -> None:
    with pytest.raises(InspectGanError, match=r"^unknown animal 'dgo': did you mean 'dog'\?$"):
        animals.get("dgo")
    with pytest.raises(InspectGanError, match=r"^unknown animal 'hippopotamus': known: cat, dog$"):
        animals.get("hippopotamus")


def test_a_name_is_given_once() -> None:
    registry: Registry = Registry("animal", PACKAGE)

    class Cat:
        pass

    registry.register("cat")(Cat)
    assert registry.register("cat")(Cat) is Cat  # a module imported again

    class Tiger:
        pass

    with pytest.raises(ValueError, match=r"animal name 'cat' is already taken by .*Cat"):
        registry.register("cat")(Tiger)


def test_a_copied_module_does_not_replace_the_original_in_silence(animals: Registry) -> None:
    import a_package_of_animals as package  # type: ignore[import-not-found]

    copy = Path(package.__file__).with_name("panther.py")
    copy.write_text(MODULE.format(package=PACKAGE, name="cat", cls="Cat"))
    with pytest.raises(ValueError, match=f"already taken by {PACKAGE}.cat.Cat"):
        animals.names()


@pytest.mark.parametrize(
    ("value", "known", "hint"),
    [
        ("stps", ["steps", "minutes"], "did you mean 'steps'?"),
        ("x", ["b", "a"], "known: a, b"),
        ("x", [], "known: none"),
    ],
)
def test_hint(value: str, known: list[str], hint: str) -> None:
    assert did_you_mean(value, known) == hint


def test_what_the_product_registers() -> None:
    assert {"ganomaly", "fanogan"} <= set(detectors.names())
    assert {"minimax", "nonsaturating", "lsgan", "wgan", "wgan_gp", "hinge", "mim"} <= set(objectives.names())
    for registry in (detectors, objectives):
        for name in registry.names():
            assert registry.get(name).name == name
            assert registry.get(name).__doc__
