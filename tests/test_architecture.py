"""Imports follow the layers of docs/architecture.md: none leads to a layer above, also none inside a function."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
OUTSIDE = ("models", "datasets", "tools")


def layers() -> list[list[str]]:
    """Names of files and folders in the first diagram of the page, from the lowest layer up."""
    diagram = PAGE.read_text(encoding="utf-8").split("```")[1]
    found: list[list[str]] = [[]]
    for line in diagram.splitlines():
        if line.strip().startswith("─"):
            found.append([])
        found[-1] += [word.strip("/") for word in line.split() if word.endswith(("/", ".py"))]
    return found[::-1]


def modules() -> Iterator[tuple[str, Path]]:
    """("scoring/maps.py", its path) of every module, folders as they are imported."""
    for folder in ("inspect_gan", *OUTSIDE):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT / "inspect_gan" if folder == "inspect_gan" else ROOT).as_posix(), path


def imported(path: Path, names: set[str]) -> Iterator[str]:
    """The modules of this package that a module imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        dotted: list[str] = []
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in dotted:
            parts = name.split(".")[1:] if name.split(".")[0] == "inspect_gan" else []
            while parts:
                found = [f"{'/'.join(parts)}{end}" for end in (".py", "/__init__.py")]
                if hits := names.intersection(found):
                    yield hits.pop()
                    break
                parts.pop()


def test_no_import_leads_upwards() -> None:
    levels = {name: level for level, row in enumerate(layers()) for name in row}
    files = dict(modules())

    def level(name: str) -> int:
        return levels[name] if name in levels else levels[name.split("/")[0]]

    assert {name for name in files if name not in levels and name.split("/")[0] not in levels} == {"__init__.py"}
    inner = {name: path for name, path in files.items() if name != "__init__.py"}
    upwards = [
        f"{name} imports {other}"
        for name, path in inner.items()
        for other in imported(path, set(inner))
        if level(other) > level(name)
    ]
    assert not upwards, "\n".join(upwards)
    assert sum(1 for name, path in inner.items() for _ in imported(path, set(inner))) > 300
