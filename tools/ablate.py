"""Run a grid of trainings and compare them."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class EngineName(StrEnum):
    local = "local"
    ray = "ray"


def ablate(
    grid: Annotated[str, typer.Argument(help="YAML file or the name of a packaged grid, see `list grids`.")],
    out: Annotated[Path, typer.Option(help="Folder of cells, tables and report; the same again resumes.")],
    engine: Annotated[
        EngineName, typer.Option(help="Processes here, or a Ray cluster (RAY_ADDRESS) that shares --out.")
    ] = EngineName.local,
    workers: Annotated[int | None, typer.Option(min=1, help="Cells side by side (default: GPUs, else cores).")] = None,
    data: Annotated[list[Path] | None, typer.Option(help="Data set to use in place of the grid's; repeatable.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show cells and budget.")] = False,
    trial: Annotated[
        bool, typer.Option("--trial", help="Run one cell of each detector, then show the budget.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed and collapsed cells again.")] = False,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY.SUB=VALUE]...")] = None,
) -> None:
    """Train and measure every cell of a grid once; tables, paired tests, effects, one page that links to each run."""
    from inspect_gan.ablation.command import Options, run_ablation
    from inspect_gan.console import PlainConsole

    console = PlainConsole()
    options = Options(
        engine=engine.value,
        workers=workers,
        data=tuple(data or ()),
        dry_run=dry_run,
        trial=trial,
        retry_failed=retry_failed,
    )
    try:
        run_ablation(grid, overrides or (), out, options, console)
    except KeyboardInterrupt:
        console.print("stopped; what is finished is kept, and the same command goes on")
        raise typer.Exit(130) from None


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["ablate", *sys.argv[1:]])
