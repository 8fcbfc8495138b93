"""`inspect-gan <command>`: all commands in one application; `python tools/<command>.py` runs the same code."""

import atexit
import gc
import os
import sys
from collections.abc import Sequence

import typer

from inspect_gan.console import PlainConsole
from inspect_gan.errors import InspectGanError
from inspect_gan.tools import (
    ablate,
    benchmark,
    defect_map,
    demo,
    evaluate,
    export,
    list_names,
    prepare,
    toys,
    train,
    watch,
)

app: typer.Typer = typer.Typer(
    help="Find defects on textured surfaces with GANs trained on good images only.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(prepare.app, name="prepare")
app.command("train")(train.train)
app.command("defect_map")(defect_map.defect_map)
app.command("watch")(watch.watch)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("ablate")(ablate.ablate)
app.command("demo")(demo.demo)
app.command("benchmark")(benchmark.benchmark)
app.command("toys")(toys.toys)
app.command("list")(list_names.list_names)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 fine, 1 NG images where asked, 2 bad usage or input, 3 training unhealthy."""
    try:
        app(args=None if arguments is None else list(arguments), prog_name="inspect-gan")
    except InspectGanError as error:
        _say(error)
        sys.exit(error.exit_code)
    except OSError as error:  # what a disk or a network share did where nobody could say more
        _say(error)
        sys.exit(2)


def _say(error: Exception) -> None:
    PlainConsole(stderr=True).print(f"error: {error}", style="red")


def process(arguments: Sequence[str] | None = None) -> None:
    """`main` as all that a process does. It ends without taking PyTorch apart first: the libraries of its CUDA build
    would read 130 MB more of themselves into memory for that, and take 0.3 s."""
    gc.set_threshold(50_000)  # imports make many objects and no garbage; looking for it takes a tenth of their time
    codes: list[int] = []
    atexit.register(_leave, codes)  # before whatever a command registers, so that it runs after it
    try:
        main(arguments)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            codes.append(stop.code or 0)
        raise


def _leave(codes: Sequence[int]) -> None:
    if codes:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(codes[0])


if __name__ == "__main__":
    process()
