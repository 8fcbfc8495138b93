"""Measure speed and memory beside a peer."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

LOG_WIDTH = 150  # columns of the table where the terminal's are unknown


class Peer(StrEnum):
    anomalib = "anomalib"
    none = "none"


def benchmark(
    out: Annotated[Path, typer.Option(help="Result file, JSON.")],
    peer: Annotated[Peer, typer.Option(help="Installed into the user's cache folder on first use.")] = Peer.anomalib,
    peer_python: Annotated[Path | None, typer.Option(help="A Python that has the peer: installs nothing.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Everything once and short: coarse figures.")] = False,
    compare: Annotated[
        Path | None,
        typer.Option(help="An older result: measure nothing, exit with 1 if --out is 15 % worse against the peer."),
    ] = None,
) -> None:
    """Training, mapping, memory and start beside anomalib's Ganomaly; CPU seconds of one thread, on made images."""
    import json

    from rich.console import Console

    from inspect_gan.benchmark import results
    from inspect_gan.benchmark.install import install_peer
    from inspect_gan.benchmark.run import run_benchmark
    from inspect_gan.console import PlainConsole
    from inspect_gan.errors import InspectGanError
    from inspect_gan.imaging import atomic_text

    if peer is Peer.none and peer_python is not None:
        raise typer.BadParameter("give --peer none or --peer-python, not both")
    console = PlainConsole()
    if compare is not None:
        lines, worse = results.compare(results.load(compare), results.load(out))
        for name, change in lines:
            console.print(f"{name}: {change}")
        raise typer.Exit(1 if worse else 0)
    if not out.parent.is_dir():
        raise InspectGanError(f"there is no folder {out.parent}: make it, or choose another --out")
    if peer is Peer.none:
        console.print("without a peer: ratios and the goals set on them are left out")
    python = None if peer is Peer.none else peer_python or install_peer(console.print)
    found = run_benchmark(python, quick, console.print)
    atomic_text(out, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    Console(highlight=False, width=None if console.is_terminal else LOG_WIDTH).print(results.table(found))
    console.print(f"results: {out}")


if __name__ == "__main__":
    from inspect_gan.tools.cli import process

    process(["benchmark", *sys.argv[1:]])
