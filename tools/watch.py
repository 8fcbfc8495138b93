"""Inspect images as they arrive in a folder."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from inspect_gan.console import PlainConsole
from inspect_gan.tools.defect_map import FailOnNg, Like, MinArea, Score, Stride, TargetFpr, UmPerPx, end


def watch(
    run: Annotated[Path, typer.Argument(help="Run directory, or a file that `export` wrote.")],
    folder: Annotated[Path, typer.Argument(help="Folder that images arrive in.")],
    out: Annotated[Path, typer.Option(help="Where maps, masks, overlays, tables and the report go.")],
    stride: Stride = None,
    target_fpr: TargetFpr = None,
    score: Score = None,
    like: Like = None,
    min_area: MinArea = None,
    um_per_px: UmPerPx = None,
    fail_on_ng: FailOnNg = False,
    interval: Annotated[
        float, typer.Option(min=0.01, help="Seconds between looks, for which a file must stay as it is.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="End when what is there is inspected.")] = False,
) -> None:
    """Inspect each image of a folder once, as it arrives, until Ctrl-C; results as of `defect_map`."""
    from inspect_gan.inspection import open_inspector
    from inspect_gan.watching import watch_folder

    console = PlainConsole()
    try:
        found = watch_folder(
            open_inspector(run),
            folder,
            out,
            score=score,
            stride=stride,
            target_fpr=target_fpr,
            like=like,
            min_area=min_area or 1,
            um_per_px=um_per_px,
            interval=interval,
            once=once,
            progress=console.print,
        )
    except KeyboardInterrupt:  # before the watch began
        raise typer.Exit(130) from None
    end(console, out, found, fail_on_ng)


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["watch", *sys.argv[1:]])
