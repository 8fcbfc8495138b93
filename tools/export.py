"""Write a trained detector as one file."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    out: Annotated[Path, typer.Option(help="File to write: *.onnx, or *.pt2 for torch.export.")],
    score: Annotated[str | None, typer.Option(help="Another score of the detector, see `list scores`.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Patch step in px.")] = None,
    target_fpr: Annotated[
        float | None, typer.Option(min=1e-6, max=0.5, help="Share of good pixels that may be flagged.")
    ] = None,
) -> None:
    """Write detector, preprocessing and threshold as one file; an ONNX file `defect_map` takes in place of the run."""
    from inspect_gan.export.scorer import SUFFIX
    from inspect_gan.export.write import TOLERANCE, export_scorer
    from inspect_gan.inspector import Inspector

    difference = export_scorer(Inspector.load(run), out, score=score, stride=stride, target_fpr=target_fpr)
    typer.echo(
        f"exported: {out}\nlargest difference from the detector on held-out patches: {difference:.1e} of the largest "
        f"score ({TOLERANCE:g} is allowed)"
    )
    if out.suffix.lower() == SUFFIX:
        typer.echo(f"next: inspect-gan defect_map {out} IMAGES --out maps")


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["export", *sys.argv[1:]])
