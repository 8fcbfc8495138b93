"""docs/performance.md, made of a result: `python -m inspect_gan.benchmark.page results.json > docs/performance.md`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_gan.benchmark import plan, results
from inspect_gan.benchmark.measure import Spread
from inspect_gan.errors import InspectGanError

MAP_PATCHES = 2709  # of 32 px, 16 px apart, on 1024×700 px

HEAD = """\
# Performance

Made by `python -m inspect_gan.benchmark.page results.json > docs/performance.md` from the result of one benchmark.

## How it is measured

The peer is anomalib's Ganomaly, set up as its users should: 32×32 patches at their own size (it enlarges to 256×256
unless told not to), 64 features, 100 latents, batches of 64, fp32, no pictures written; it takes three channels
only. Ours is the same network through this package's own training loop and inference path. Images are drawn
(nanofibres, 1024×700 px, 8 bits).

Every figure comes from a process of its own. Ours and the peer's processes take turns; a figure is the median of the
repetitions, with the range in brackets, and a ratio says how many times better ours is, repetition by repetition.
Speed is counted in CPU seconds of the process on one thread, which others on the machine disturb less than the wall
clock; wall-clock rows say so and mean something on an idle machine only. First steps, and first passes over a map,
are not counted, except where the start itself is measured.
"""

CAVEATS = """\
The networks differ in one place: the peer's first convolutions pad by 4, ours by 1 as the authors' code does, so
the peer's feature maps are larger. The losses differ where they cost nothing: the peer compares the discriminator's
outputs and smooths the distance of codes, ours compares its features, as the paper does. The row on arithmetic says
how much work the padding and the order of updates make; the rest of a ratio is speed. Ours also logs, averages
weights and turns patches, which the peer does not. The peer makes no map: its side of a map is its bare network on
the same patches, without stitching.

CUDA paths have not been timed: there was no GPU. A GPU keeps the training images in its memory; patches are cut
and turned there. Training uses one device. Its steps are not replayed as CUDA graphs: `torch.compile` would do that,
but cannot differentiate twice, as gradient penalties must.
"""

LIMITS = """\
- GANomaly's score of a patch hangs on a 1×1 code. All that follows the code (decoder, second encoder) is another
  image for every patch, so overlapping patches can share the first encoder only, about a third of the arithmetic:
  no method can make an exact `enc_mse` map more than some 1.5 times faster than patch by patch. The work grows with
  the inverse square of the stride: stride 8 takes four times as long as 16, stride 1 some 250 times as long.
- Layers with one or three channels and those between 4×4 maps and codes move much memory for little arithmetic;
  they run at a small share of what the processor can do, whoever computes them.
- Importing torch takes most of the time before the first patch and most of the memory. What needs it cannot start
  sooner.
"""


def page(found: Mapping[str, Any]) -> str:
    """The page of a result that `results.load` accepts."""
    rows = found["rows"]
    met = [row for row in rows if row["met"]]
    missed = [row for row in rows if row["met"] is False]
    open_goals = [row for row in rows if row["goal"] and row["met"] is None]
    times = "once, in a short run: coarse figures" if found["quick"] else f"{plan.REPETITIONS} times"
    lines = [HEAD, *(f"{text}  " for text in results.title(found).split("\n"))]
    lines += [f"Measured on {found['made']}, {times}.", "", "## Results"]
    for section in dict.fromkeys(row["section"] for row in rows):
        lines += ["", f"### {section}", "", "| case | ours | peer | ratio | goal | |", "|---|---|---|---|---|---|"]
        lines += [f"| {row['text']} | {' | '.join(results.cells(row))} |" for row in rows if row["section"] == section]
    lines += ["", CAVEATS, "## Goals", "", f"{len(met)} of {len(met) + len(missed) + len(open_goals)} are met."]
    lines += _listed("Met", met) + _listed("Not met", missed) + _listed("Not measured", open_goals)
    lines += ["", "## Limits", "", *_ceilings(found), LIMITS, "## Repeat it", "", "```"]
    lines += ["make benchmark            # all of it, into benchmark.json; installs the peer on first use"]
    lines += [
        "inspect-gan benchmark --out new.json --quick                 # once and short",
        "inspect-gan benchmark --out new.json --compare old.json      # exit code 1 if a ratio fell by more than 15 %",
        "python -m inspect_gan.benchmark.profiles docs/profiles       # the costliest operations of training and maps",
        "```",
        "",
    ]
    return "\n".join(lines)


def _listed(heading: str, rows: list[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    return ["", f"{heading}:", "", *(f"- {_goal(row)}" for row in rows)]


def _goal(row: Mapping[str, Any]) -> str:
    ours, _, ratio, goal, met = results.cells(row)
    reached = met if row["met"] is None else ratio if goal.startswith("≥") else ours
    return f"{row['section'].split(',')[0]}: {row['text']}: {reached}, goal {goal}"


def _ceilings(found: Mapping[str, Any]) -> list[str]:
    """What the processor's arithmetic allows, where it was measured."""
    samples = found["samples"]
    counted = samples.get("arithmetic")
    if counted is None:
        return []
    step, score = counted["mflop_per_patch"][0], counted["mflop_per_score"][0]
    lines = [
        f"- A training step takes {step:,.0f} MFLOP per patch, the score of a patch {score:,.0f}. The most a core does",
        "  here is what it does in a large convolution:",
    ]
    for precision in ("fp32", "bf16"):
        peak = counted[f"gflops_{precision}"][0]
        if peak is None:
            continue
        trained = Spread.of(samples[f"train_{precision}"]["patches_per_cpu_s"]).median
        mapped = Spread.of(samples[f"map16_{precision}"]["cpu_s"]).median
        most, least = 1000 * peak / step, MAP_PATCHES * score / peak / 1000
        lines += [
            f"  - {precision}: {peak:,.0f} GFLOP/s. Training: at most {most:,.0f} patches per CPU second, "
            f"{trained / most:.0%} of it reached.",
            f"    A map at stride 16: at least {least:.2f} CPU seconds; {mapped:.2f} needed.",
        ]
    return lines


if __name__ == "__main__":
    try:
        print(page(results.load(Path(sys.argv[1]))), end="")
    except InspectGanError as error:
        sys.exit(f"error: {error}")
