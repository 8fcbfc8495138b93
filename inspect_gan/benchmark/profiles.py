"""Where the time goes: the costliest operations of a training step and of a map, as text.

Usage: python -m inspect_gan.benchmark.profiles OUT. On one thread; the networks of `cases`. Writes OUT/train_fp32.txt
and so on; operations with their input shapes, by their own time.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROWS = 25
STEPS = 8


def main(out: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    from inspect_gan.benchmark import cases
    from inspect_gan.imaging import atomic_text

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        cases.prepare(Path(data))
        works: dict[str, Callable[[], Any]] = {
            "train_fp32": partial(cases.train, Path(data), 3, "32-true", STEPS),
            "train_bf16": partial(cases.train, Path(data), 3, "bf16-mixed", STEPS),
            "map16_fp32": partial(cases.map_image, Path(data), 16, "32-true"),
            "map16_bf16": partial(cases.map_image, Path(data), 16, "bf16-mixed"),
            "shared4_bf16": partial(cases.map_image, Path(data), 4, "bf16-mixed", "valid"),
        }
        for name, work in works.items():
            atomic_text(folder / f"{name}.txt", profile(work))


def profile(work: Callable[[], Any]) -> str:
    """The ROWS costliest operations of the work, run once unprofiled before."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    from inspect_gan.benchmark.machine import commit, processor

    work()
    with profiler(activities=[ProfilerActivity.CPU], record_shapes=True) as made:
        work()
    events = sorted(made.key_averages(group_by_input_shape=True), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    lines = [f"{processor()}, one thread, commit {commit()}", f"{'share':>6} {'ms':>9} {'calls':>6}  operation"]
    for event in events[:ROWS]:
        shapes = " ".join("×".join(map(str, shape)) for shape in event.input_shapes if shape)
        milliseconds = event.self_cpu_time_total / 1e3
        lines.append(f"{milliseconds * 1e3 / total:6.1%} {milliseconds:9.1f} {event.count:6}  {event.key} {shapes}")
    return "\n".join(line.rstrip()[:150] for line in lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
