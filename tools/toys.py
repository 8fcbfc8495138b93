"""What the penalty distribution and each objective do, on points."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def toys(
    out: Annotated[Path, typer.Option(help="Folder for figures and numbers.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Generator steps of each training.")] = 2000,
    table: Annotated[
        Path | None,
        typer.Option(help="MAT file of the ODDS collection: train on its rows instead (docs/results/tabular.md)."),
    ] = None,
) -> None:
    """Train tiny GANs on points in the plane and on the line; draw what penalty and objectives do (docs/toys.md)."""
    import torch

    from inspect_gan.console import PlainConsole
    from inspect_gan.toys import FIGURES, NUMBERS, run_toys, tabular

    started = time.monotonic()
    console = PlainConsole()
    torch.set_num_threads(1)  # of matrices this small threads make slower work
    if table is None:
        run_toys(out, seed, steps, console.print)
        written: tuple[str, ...] = (*FIGURES, NUMBERS)
    else:
        tabular.run_tabular(table, out, seed, steps, console.print)
        written = (tabular.NUMBERS,)
    console.print("\n".join(str(out / name) for name in written))
    console.print(f"done in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["toys", *sys.argv[1:]])
