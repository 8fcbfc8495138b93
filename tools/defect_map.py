"""Map defects in images and judge them."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from inspect_gan.console import PlainConsole

Stride = Annotated[int | None, typer.Option(min=1, help="Patch step in px; smaller is finer and slower.")]
TargetFpr = Annotated[float | None, typer.Option(min=1e-6, max=0.5, help="Share of good pixels that may be flagged.")]
Score = Annotated[str | None, typer.Option(help="Another score of the detector, see `list scores`.")]
MinArea = Annotated[int | None, typer.Option(min=1, help="Ignore regions of fewer px.")]
Like = Annotated[
    Path | None, typer.Option(help="Results whose score, stride, rate and limits to take, false alarms allowed for.")
]
UmPerPx = Annotated[float | None, typer.Option(min=1e-9, help="Scale; by default what the image's file tells.")]
FailOnNg = Annotated[bool, typer.Option("--fail-on-ng", help="Exit with 1 if any image is NG.")]


def defect_map(
    run: Annotated[Path, typer.Argument(help="Run directory, or a file that `export` wrote.")],
    out: Annotated[Path, typer.Option(help="Where maps, masks, overlays, tables and the report go.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Images, or folders of images.")] = None,
    stride: Stride = None,
    target_fpr: TargetFpr = None,
    score: Score = None,
    like: Like = None,
    min_area: MinArea = None,
    um_per_px: UmPerPx = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be inspected.")] = False,
    fail_on_ng: FailOnNg = False,
    recalibrate: Annotated[
        bool,
        typer.Option(
            "--recalibrate",
            help="Judge what was inspected into --out anew at another --target-fpr, without the networks.",
        ),
    ] = False,
    corrections: Annotated[
        Path | None,
        typer.Option(help="With --recalibrate: file of the report; limits then allow for its false alarms."),
    ] = None,
) -> None:
    """Full-size defect maps, masks, overlays, a defect list and a verdict (OK, REVIEW, NG) for each image."""
    from inspect_gan import inspection, recalibration
    from inspect_gan.errors import InspectGanError

    console = PlainConsole()
    if recalibrate and images:
        raise InspectGanError("--recalibrate takes no images: it judges those that were inspected into --out")
    if recalibrate and like:
        raise InspectGanError("--recalibrate takes no --like: give --target-fpr or --corrections")
    if corrections and not recalibrate:
        raise InspectGanError("--corrections goes with --recalibrate: others are judged alike with --like")
    try:
        inspector = inspection.open_inspector(run)
        if recalibrate:
            found = recalibration.recalibrate(
                inspector,
                out,
                score=score,
                stride=stride,
                target_fpr=target_fpr,
                corrections=corrections,
                min_area=min_area,
                um_per_px=um_per_px,
                strict=strict,
                progress=console.print,
            )
        else:
            found = inspection.inspect_images(
                inspector,
                inspection.collect_images(images or [], out),
                out,
                score=score,
                stride=stride,
                target_fpr=target_fpr,
                like=like,
                min_area=min_area or 1,
                um_per_px=um_per_px,
                strict=strict,
                progress=console.print,
            )
    except KeyboardInterrupt:
        console.print("stopped; what is finished is kept, and the same command goes on")
        raise typer.Exit(130) from None
    end(console, out, found, fail_on_ng)


def end(console: PlainConsole, out: Path, found: Mapping[str, int], fail_on_ng: bool) -> None:
    """Say where the results are, and exit with what the verdicts tell."""
    from inspect_gan.scoring.verdict import Verdict

    console.print(f"report: {out / 'report.html'}\nmaps: {out / 'maps'}\noverlays: {out / 'overlays'}")
    if found[Verdict.ERROR]:
        raise typer.Exit(2)
    if fail_on_ng and found[Verdict.NG]:
        raise typer.Exit(1)


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["defect_map", *sys.argv[1:]])
