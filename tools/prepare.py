"""Make or fetch a data set, or cut images into patch files."""

import sys
from pathlib import Path
from typing import Annotated

import typer

app: typer.Typer = typer.Typer(help="Make or fetch a data set.", no_args_is_help=True, rich_markup_mode=None)
Out = Annotated[Path, typer.Option(help="Folder to make.")]


@app.command()
def nanofibres(
    out: Out,
    normal: Annotated[int, typer.Option(min=1, help="Normal training images.")] = 5,
    defective: Annotated[int, typer.Option(min=0, help="Defective test images with masks.")] = 6,
    height: Annotated[int, typer.Option(min=32)] = 700,
    width: Annotated[int, typer.Option(min=32)] = 1024,
    bit_depth: Annotated[int, typer.Option(help="8 or 16.")] = 8,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Draw SEM-like images of nanofibres, normal and defective, with masks (MVTec layout)."""
    from inspect_gan.datasets.nanofibres import write_dataset

    write_dataset(out, normal=normal, defective=defective, height=height, width=width, bit_depth=bit_depth, seed=seed)
    typer.echo(f"{normal} normal and {defective} defective images: {out}")


@app.command()
def nanotwice(
    out: Out,
    archive: Annotated[Path | None, typer.Option(help="Zip file downloaded by hand.")] = None,
) -> None:
    """Fetch the NanoTWICE nanofibre images (Carrera et al. 2017), check and unpack them."""
    from inspect_gan.datasets.nanotwice import download, unpack

    if archive is None:
        download(out)
    else:
        unpack(archive, out)
    typer.echo(f"NanoTWICE: {out}; train on {out / 'Normal'}")


@app.command()
def pasted(
    images: Annotated[Path, typer.Option(help="Good images: any data set, its training part is used.")],
    out: Out,
    size: Annotated[int, typer.Option(min=8, help="Largest patch side to be compared, in px of the images.")] = 64,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    layout: Annotated[str, typer.Option(help="How the images lie, as data.layout in training.")] = "auto",
    page: Annotated[int | None, typer.Option(min=1, help="Of multi-page TIFF files, as data.page in training.")] = None,
    info_bar: Annotated[
        str, typer.Option(help="Rows at the bottom to be cut off, or auto, as data.info_bar in training.")
    ] = "none",
) -> None:
    """Make a data set with masks out of good images: part to train on, part with pasted objects (MVTec layout)."""
    from inspect_gan.datasets.pasted import write_dataset
    from inspect_gan.imaging.info_bar import info_bar_of

    made = write_dataset(images, out, size=size, seed=seed, layout=layout, page=page, info_bar=info_bar_of(info_bar))
    typer.echo(
        f"{made.train} images to train on; {made.good} unseen parts, {made.pasted} copies of them with "
        f"{made.objects} pasted objects: {out}"
    )


@app.command()
def reviewed(
    results: Annotated[Path, typer.Argument(help="Folder that defect_map wrote.")],
    corrections: Annotated[Path, typer.Option(help="File that its report saved.")],
    out: Out,
) -> None:
    """Make masks out of an inspection that was corrected in its report, for `evaluate --masks`."""
    from inspect_gan.reporting.reviewed import write_masks

    masks, corrected = write_masks(results, corrections, out)
    typer.echo(f"{masks} masks, {corrected} of them corrected: {out}")


@app.command()
def patches(
    images: Annotated[Path, typer.Argument(help="Folder of images.")],
    out: Out,
    size: Annotated[int, typer.Option(min=8, help="Patch side in px.")] = 32,
    stride: Annotated[int | None, typer.Option(min=1, help="Patch step in px (default: the size).")] = None,
) -> None:
    """Cut images into grid patches, one PNG each, for tools that want patch files. Training needs none."""
    from inspect_gan.datasets.patch_files import write_patches

    count = write_patches(images, out, size=size, stride=stride or size)
    typer.echo(f"{count} patches: {out}")


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["prepare", *sys.argv[1:]])
