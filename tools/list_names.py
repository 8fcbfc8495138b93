"""What there is to choose from."""

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    detectors = "detectors"
    objectives = "objectives"
    scores = "scores"
    tricks = "tricks"
    datasets = "datasets"
    configs = "configs"
    grids = "grids"


def list_names(
    kind: Annotated[Kind, typer.Argument()],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """List detectors, objectives, scores, tricks, data-set layouts, packaged configurations or grids of `ablate`."""
    from inspect_gan.catalogue import catalogue

    entries = catalogue(kind.value)
    if as_json:
        print(json.dumps(entries, indent=1))
        return
    width = max(map(len, entries), default=0)
    for name, text in entries.items():
        print(f"{name:<{width}}  {text}")


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["list", *sys.argv[1:]])
