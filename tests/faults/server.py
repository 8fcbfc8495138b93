"""A process with everything imported that runs commands in forks of itself and lets them die, or their disks fail.

Start it with the name of a pipe's ends as standard input and output: one request, one answer, a line of JSON each.

Request: arguments of `inspect-gan`, or of a cell of a sweep where `cell` is true; python: a program that a sweep is to
start for its cells in place of Python, or null; kill_after: seconds until SIGKILL, or null; at: number of the file
operation at which `kind` happens, or null; kind: "kill", or the name of an errno that this and all later operations
raise.
Answer: code as of `subprocess`, operations: how many there were, output: both streams, seconds.

An operation is an open for writing, a write (half of the bytes arrive), a sync, a rename, a removal, a new folder.
"""

import builtins
import errno
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WRITING = set("wax+")


class Faults:
    """Counts file operations and makes one fail."""

    def __init__(self, at: int | None, kind: str, count: int):
        self.at = at
        self.kind = kind
        self.operations = 0
        self._count = count  # descriptor of the file that tells how many there were

    def install(self) -> None:
        self._open = io.open
        io.open = builtins.open = self._opened  # type: ignore[assignment]
        for name in ("fsync", "replace", "unlink", "mkdir", "rmdir", "link", "truncate"):
            setattr(os, name, self._counted(getattr(os, name)))

    def happens(self) -> bool:
        """Whether the next operation is to fail."""
        self.operations += 1
        os.pwrite(self._count, str(self.operations).encode(), 0)
        return self.at is not None and (
            self.operations == self.at or (self.operations > self.at and self.kind != "kill")
        )

    def fail(self) -> None:
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.kind)
        raise OSError(number, os.strerror(number))

    def _counted(self, function: Any) -> Any:
        def counted(*arguments: Any, **options: Any) -> Any:
            if function.__name__ == "unlink" and self.kind == "ENOSPC":
                return function(*arguments, **options)  # a full disk lets files go
            if self.happens():
                self.fail()
            return function(*arguments, **options)

        return counted

    def _opened(self, file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if not WRITING & set(mode) or isinstance(file, int) or str(file).startswith("/dev/"):
            return self._open(file, mode, *rest, **options)
        if self.happens():
            self.fail()
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        raw.faults = self
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding=options.get("encoding") or "utf-8", newline=options.get("newline"))
        text.mode = mode
        return text


class Raw(io.FileIO):
    faults: Faults

    def write(self, data: Any) -> int:
        if self.faults.happens():
            super().write(memoryview(data).cast("B")[: len(data) // 2])
            self.faults.fail()
        return super().write(data)


def run(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as count:
        parent_lives, parent = os.pipe()  # a cell ends with its parent, which it knows by its standard input
        child = os.fork()
        if child == 0:
            os.close(parent)
            os.dup2(parent_lives, 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            work(request, count.fileno())
        started = time.monotonic()
        code = wait(child, request.get("kill_after"))
        seconds = time.monotonic() - started
        os.close(parent)
        os.close(parent_lives)
        for file in (output, count):
            file.seek(0)
        return {
            "code": code,
            "operations": int(count.read() or 0),
            "output": output.read().decode(errors="replace"),
            "seconds": seconds,
        }


def work(request: dict[str, Any], count: int) -> None:
    code = 70
    try:
        sys.stdout, sys.stderr = io.TextIOWrapper(io.FileIO(1, "w")), io.TextIOWrapper(io.FileIO(2, "w"))
        if "file_size" in request:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"],) * 2)
        sys.executable = request.get("python") or sys.executable
        Faults(request.get("at"), request.get("kind", "kill"), count).install()
        code = command(request)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(request: dict[str, Any]) -> int:
    from inspect_gan.ablation.cell import main as cell
    from inspect_gan.tools.cli import main

    if request.get("cell"):
        return cell(Path(*request["arguments"]))
    main(request["arguments"])
    return 0


def wait(child: int, kill_after: float | None) -> int:
    deadline = None if kill_after is None else time.monotonic() + kill_after
    while True:
        pid, status = os.waitpid(child, 0 if deadline is None else os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        assert deadline is not None
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            deadline = None
        else:
            time.sleep(0.0005)


def main() -> None:
    import cv2
    import torch
    import torchvision.utils  # noqa: F401

    import inspect_gan.ablation.command
    import inspect_gan.export.write
    import inspect_gan.inspection
    import inspect_gan.tools.cli
    import inspect_gan.training.fit  # noqa: F401

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
