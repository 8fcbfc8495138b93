"""Write a trained detector as one file that needs no torch."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    ONNX = "onnx"


def export(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    out: Annotated[Path, typer.Option(help="File to write, *.onnx.")],
    format: Annotated[Format, typer.Option(help="Of the file.")] = Format.ONNX,
    score: Annotated[str | None, typer.Option(help="Another score of the detector, see `list scores`.")] = None,
    stride: Annotated[int | None, typer.Option(min=1, help="Patch step in px.")] = None,
    target_fpr: Annotated[
        float | None, typer.Option(min=1e-6, max=0.5, help="Share of good pixels that may be flagged.")
    ] = None,
) -> None:
    """Write detector, preprocessing and threshold as one ONNX file; `defect_map` takes it in place of the run."""
    from inspect_gan.export.write import TOLERANCE, export_onnx
    from inspect_gan.inspector import Inspector

    difference = export_onnx(Inspector.load(run), out, score=score, stride=stride, target_fpr=target_fpr)
    typer.echo(
        f"exported: {out}\nlargest difference from the detector on held-out patches: {difference:.1e} of the largest "
        f"score ({TOLERANCE:g} is allowed)\nnext: inspect-gan defect_map {out} IMAGES --out maps"
    )


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["export", *sys.argv[1:]])
