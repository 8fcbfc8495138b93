"""docs/configuration.md: every setting with type, default, range and meaning, read from the settings classes.

A setting's meaning is what stands behind its name in the docstring of its class: `key: meaning.` or
`key, other: meaning.`
"""

import re
from collections.abc import Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

from inspect_gan.ablation.grid import DataEntry, DrawnData, Grid, Limits
from inspect_gan.config import Config
from inspect_gan.detector import Detector, DetectorSettings, detectors
from inspect_gan.objectives import objectives
from inspect_gan.objectives.penalties import PairPenaltySettings, PenaltySettings
from inspect_gan.settings import Settings

REMEDY = "python -m inspect_gan.pages.configuration > docs/configuration.md"
# Explained once, for all detectors that have them.
COMMON = (DetectorSettings, PairPenaltySettings, PenaltySettings)

_HEAD = re.compile(r"(?:^|(?<=[.;] ))(\w+(?:, \w+)*): ")
_KINDS = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`", NoneType: "`null`"}
_SIGNS = {annotated_types.Ge: "≥", annotated_types.Gt: ">", annotated_types.Le: "≤", annotated_types.Lt: "<"}


def page() -> str:
    """The whole page."""
    run = Config.model_fields
    parts = {name: field.default for name, field in run.items() if isinstance(field.default, Settings)}
    lines = [
        "# Configuration",
        "",
        f"Made from the code by `{REMEDY}`; a test keeps it true.",
        "",
        "A run is configured by a YAML file (`--config FILE`) or a packaged one (`inspect-gan list configs`), and by",
        "overrides `key.sub=value` on the command line. What neither says is the default below. An unknown key or a",
        "value out of range is an error that names the line and the nearest key. The settings of a run are kept in its",
        "`config.yaml`. Packaged configurations differ from the defaults where they say so: `configs/`.",
        "",
        "```yaml",
        "detector: {name: ganomaly, width: 32}",
        "objective: nonsaturating  # short for {name: nonsaturating}",
        "patches: {size: 64}",
        "training: {minutes: 20}",
        "```",
        "",
        "## Run",
        "",
        *_table(Config, (name for name in run if name not in parts)),
    ]
    for name, part in parts.items():
        lines += ["", f"## {name}", "", *_table(type(part), prefix=f"{name}.")]
    lines += ["", "## objective", "", "`objective.name` and the settings of that objective:", ""]
    lines += _header()
    for name in objectives.names():
        settings = objectives.get(name).settings_class
        lines += (
            [f"| `{name}` | | | | no settings |"] if not settings.model_fields else _rows(settings, "", f"`{name}`: ")
        )
    lines += [
        "",
        "## detector",
        "",
        "`detector.name` and the settings of that detector. Every detector has these; one with other defaults names",
        "them again in its own table:",
        "",
        *_table(DetectorSettings, prefix="detector."),
        "",
        "### Penalty distribution",
        "",
        "Of all detectors but the EBGANs:",
        "",
        *_table(PenaltySettings, prefix="detector."),
        "",
        "Of those with a discriminator of pairs, `alad`, `bigan` and `rcgan`, also:",
        "",
        *_table(PairPenaltySettings, PairPenaltySettings.__annotations__, prefix="detector."),
    ]
    for name in detectors.names():
        lines += ["", f"### {name}", "", *_detector(detectors.get(name))]
    lines += [
        "",
        "## Grids",
        "",
        "A grid of `inspect-gan ablate`, a YAML file or a packaged one (`inspect-gan list grids`):",
        "",
        *_table(Grid),
    ]
    for title, prefix, model in (
        ("Data sets of a grid", "data.NAME.", DataEntry),
        ("Drawn data sets", "data.NAME.draw.", DrawnData),
        ("Limits", "limits.", Limits),
    ):
        lines += ["", f"### {title}", "", *_table(model, prefix=prefix)]
    return "\n".join([*lines, ""])


def meanings(model: type[Settings]) -> dict[str, str]:
    """{field: what it means} of a class and those it inherits from, where the docstrings say so."""
    found: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        text = " ".join((cls.__doc__ or "").split())
        heads = [head for head in _HEAD.finditer(text) if set(head[1].split(", ")) <= set(model.model_fields)]
        ends = [head.start() for head in heads[1:]] + [len(text)]
        for head, end in zip(heads, ends, strict=False):
            keys, meaning = head[1].split(", "), text[head.end() : end].strip().rstrip(".;")
            together = f"{', '.join(f'`{key}`' for key in keys)}: " if len(keys) > 1 else ""
            found |= dict.fromkeys(keys, together + re.sub(r"\bNone\b", "`null`", meaning))
    return found


def _header(*more: str) -> list[str]:
    columns = ["key", "type", "default", *more, "range", "meaning"]
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def _table(model: type[Settings], keys: Iterable[str] | None = None, prefix: str = "") -> list[str]:
    return [*_header(), *_rows(model, prefix, keys=keys)]


def _rows(model: type[Settings], prefix: str, before: str = "", keys: Iterable[str] | None = None) -> list[str]:
    return [_row(model, key, f"{before}`{prefix}{key}`") for key in (model.model_fields if keys is None else keys)]


def _row(model: type[Settings], key: str, title: str, *more: str) -> str:
    field = model.model_fields[key]
    meaning = meanings(model).get(key)
    if meaning is None:
        raise LookupError(f"the docstring of {model.__name__} does not say what '{key}' means")
    cells = [title, _kind(field.annotation), _default(field), *more, _range(field), meaning.replace("|", r"\|")]
    return f"| {' | '.join(cells)} |"


def _detector(detector: type[Detector]) -> list[str]:
    """Its own settings, and common ones that it or its preset changes."""
    model = detector.settings_class
    default, thesis = (detector.make_settings({"preset": preset}).model_dump() for preset in ("default", "thesis"))
    own = {key for cls in model.__mro__ if cls not in COMMON for key in getattr(cls, "__annotations__", ())}
    keys = [key for key in model.model_fields if key != "preset" and (key in own or thesis[key] != default[key])]
    rows = [
        _row(model, key, f"`detector.{key}`", _value(thesis[key]) if thesis[key] != default[key] else "")
        for key in keys
    ]
    return [*_header("preset `thesis`"), *rows]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if isinstance(value, Settings) else _value(value)


def _value(value: Any) -> str:
    """As YAML has it."""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower() if value is not None else 'null'}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_kind(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}s"
    if origin in (dict, Mapping) or (isinstance(annotation, type) and issubclass(annotation, Settings)):
        return "mapping"
    return _KINDS.get(annotation, "path")


def _range(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(limit, kind.__name__.lower())}"
        for limit in field.metadata
        for kind, sign in _SIGNS.items()
        if isinstance(limit, kind)
    ]
    return ", ".join(bounds)


if __name__ == "__main__":
    print(page(), end="")
