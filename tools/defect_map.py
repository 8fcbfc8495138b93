"""Map defects in images and judge them."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def defect_map(
    run: Annotated[Path, typer.Argument(help="Run directory, or a file that `export` wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="Where maps, masks, overlays, tables and the report go.")],
    stride: Annotated[int | None, typer.Option(min=1, help="Patch step in px; smaller is finer and slower.")] = None,
    target_fpr: Annotated[
        float | None, typer.Option(min=1e-6, max=0.5, help="Share of good pixels that may be flagged.")
    ] = None,
    score: Annotated[str | None, typer.Option(help="Another score of the detector, see `list scores`.")] = None,
    min_area: Annotated[int, typer.Option(min=1, help="Ignore regions of fewer px.")] = 1,
    um_per_px: Annotated[
        float | None, typer.Option(min=1e-9, help="Scale; by default what the image's file tells.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be inspected.")] = False,
    fail_on_ng: Annotated[bool, typer.Option("--fail-on-ng", help="Exit with 1 if any image is NG.")] = False,
) -> None:
    """Full-size defect maps, masks, overlays, a defect list and a verdict (OK, REVIEW, NG) for each image."""
    from inspect_gan.console import PlainConsole
    from inspect_gan.inspection import collect_images, inspect_images, open_inspector
    from inspect_gan.scoring.verdict import Verdict

    console = PlainConsole()
    try:
        found = inspect_images(
            open_inspector(run),
            collect_images(images),
            out,
            score=score,
            stride=stride,
            target_fpr=target_fpr,
            min_area=min_area,
            um_per_px=um_per_px,
            strict=strict,
            progress=console.print,
        )
    except KeyboardInterrupt:
        console.print("stopped; what is finished is kept, and the same command goes on")
        raise typer.Exit(130) from None
    console.print(f"report: {out / 'report.html'}\nmaps: {out / 'maps'}\noverlays: {out / 'overlays'}")
    if found[Verdict.ERROR]:
        raise typer.Exit(2)
    if fail_on_ng and found[Verdict.NG]:
        raise typer.Exit(1)


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["defect_map", *sys.argv[1:]])
