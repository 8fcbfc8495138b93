"""docs/api.md: the public classes and functions with their signatures and docstrings, as the source has them."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib import import_module
from types import FunctionType
from typing import Any

from inspect_gan.base_inspector import Result
from inspect_gan.config import Config, load_config, make_config
from inspect_gan.datasets import open_dataset
from inspect_gan.datasets.samples import DataSet, Sample
from inspect_gan.detector import Batch, Detector, PatchShape, Phase, Score, Stage, View
from inspect_gan.errors import InspectGanError
from inspect_gan.export.write import export_scorer
from inspect_gan.inspection import inspect_images, open_inspector
from inspect_gan.inspector import Inspector
from inspect_gan.objectives import Game, Objective, Optimizer
from inspect_gan.registry import Registry
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.regions import Region
from inspect_gan.scoring.verdict import Verdict
from inspect_gan.training.fit import fit_run, source_of

REMEDY = "python -m inspect_gan.pages.api > docs/api.md"
PUBLIC: dict[str, tuple[Any, ...]] = {
    "Inspecting": (Inspector, Result, Region, Verdict, Calibration, open_inspector, inspect_images, export_scorer),
    "Training": (Config, load_config, make_config, open_dataset, DataSet, Sample, source_of, fit_run),
    "Detectors": (Detector, PatchShape, Batch, Stage, Phase, View, Score),
    "Objectives": (Objective, Optimizer, Game),
    "Names and errors": (Registry, InspectGanError),
}
WIDTH = 100  # of a signature; longer ones take a line per argument


def page() -> str:
    """The whole page."""
    lines = [
        "# API",
        "",
        f"Made from the code by `{REMEDY}`; a test keeps it true. What is not listed here may change without",
        "notice.",
        "",
        "Shapes: B batch, C channels, S patch side, H and W height and width of an image.",
    ]
    for title, things in PUBLIC.items():
        lines += ["", f"## {title}"]
        for thing in things:
            lines += ["", f"### {thing.__name__}", "", *_entry(thing)]
    return "\n".join([*lines, ""])


def _entry(thing: Any) -> list[str]:
    place = [f"`from {_module(thing)} import {thing.__name__}`", ""]
    if not isinstance(thing, type):
        return [*place, *_function(thing)]
    lines = [*place, _text(thing)]
    if is_dataclass(thing):
        lines += ["", *_code("\n".join(_fields(thing)))]
    for name, function in _methods(thing):
        lines += ["", f"#### {thing.__name__}.{name}", "", *_function(function)]
    return lines


def _methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Public ones with a docstring, those of project's base classes after its own."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("inspect_gan."):
            continue
        for name, member in vars(base).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if name.startswith("_") or name in seen or not isinstance(function, FunctionType):
                continue
            seen.add(name)
            if inspect.getdoc(function):
                yield name, function


def _function(function: Any) -> list[str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    decorators = "".join(f"@{ast.unparse(one)}\n" for one in node.decorator_list)
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    line = f"def {node.name}({ast.unparse(node.args)}){returns}"
    if len(line) > WIDTH:
        line = f"def {node.name}(\n{_one_a_line(node.args)}){returns}"
    return [*_code(decorators + line), "", _text(function)]


def _module(thing: Any) -> str:
    """Where users import it from: the package, where that offers it."""
    package = thing.__module__.rpartition(".")[0]
    offered = getattr(import_module(package), thing.__name__, None)
    return package if offered is thing else thing.__module__


def _text(thing: Any) -> str:
    """Its docstring; names in angle brackets are no HTML."""
    return (inspect.getdoc(thing) or "").replace("<", "&lt;")


def _one_a_line(arguments: ast.arguments) -> str:
    """Of an argument list, its parts between the commas that stand in no bracket."""
    text, depth, parts = ast.unparse(arguments), 0, [""]
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return "".join(f"    {part.strip()},\n" for part in parts)


def _fields(cls: type) -> list[str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(node, ast.ClassDef)
    return [ast.unparse(part) for part in node.body if isinstance(part, ast.AnnAssign) and not _is_private(part)]


def _is_private(field: ast.AnnAssign) -> bool:
    return isinstance(field.target, ast.Name) and field.target.id.startswith("_")


def _code(text: str) -> list[str]:
    return ["```python", text, "```"]


if __name__ == "__main__":
    print(page(), end="")
