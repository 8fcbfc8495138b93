"""Results of benchmarks: read, show, compare."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspect_gan.benchmark.run import FORMAT
from inspect_gan.documents import read_json
from inspect_gan.errors import InspectGanError

if TYPE_CHECKING:
    from rich.table import Table

# By how much a ratio to the peer may fall between two results before it is called a regression: noise is below.
TOLERANCE = 0.15


def load(path: Path) -> dict[str, Any]:
    """Raises InspectGanError for a file that is missing or no result of a benchmark."""
    try:
        found = read_json(path)
    except OSError as error:
        raise InspectGanError(f"{path} cannot be read ({error.strerror}): measure first, with --out {path}") from error
    except ValueError as error:
        raise InspectGanError(f"{path} is damaged ({error}): measure again, with --out {path}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise InspectGanError(f"{path} is no result of this version's benchmark: measure again, with --out {path}")
    return found


def cells(row: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Ours, the peer's, the ratio, the goal, whether it is met or why it is open, as text; "–" for none."""
    met = {True: "met", False: "not met", None: "–"}[row["met"]]
    if row["note"] and (row["ours"] is None or (row["goal"] and row["met"] is None)):
        met = row["note"]
    ratio = "–" if row["ratio"] is None else f"{spread(row['ratio'], 2)}×"
    return (
        "–" if row["ours"] is None else f"{spread(row['ours'], row['digits'])} {row['unit']}".replace(" ×", "×"),
        "–" if row["peer"] is None else spread(row["peer"], row["digits"]),
        ratio,
        row["goal"] or "–",
        met,
    )


def spread(values: Mapping[str, float], digits: int) -> str:
    """Median, and the range where it can be seen."""
    median, low, high = (f"{values[key]:,.{digits}f}" for key in ("median", "low", "high"))
    return median if low == high else f"{median} ({low}–{high})"


def table(found: Mapping[str, Any]) -> "Table":
    """Every row, for a terminal."""
    from rich.table import Table

    shown = Table("case", "ours", "peer", "ratio", "goal", "", title=title(found))
    section = None
    for row in found["rows"]:
        if row["section"] != section:
            section = row["section"]
            shown.add_section()
            shown.add_row(section.replace("`", ""), style="bold")
        shown.add_row(row["text"].replace("`", ""), *cells(row))
    return shown


def title(found: Mapping[str, Any]) -> str:
    """Machine and versions in a few lines."""
    machine, versions = found["machine"], found["versions"]
    bf16 = "with" if machine["bf16"] else "without"
    peer = found["peer"]
    return "\n".join(
        (
            f"{machine['cpu']}, {machine['cores']} cores, {bf16} bfloat16 instructions, {machine['system']}, "
            f"load {machine['load']:.1f} before and {machine['load_after']:.1f} after",
            f"inspect-gan {versions['inspect_gan']} (commit {found['commit'] or 'unknown'}), "
            f"torch {versions['torch']}, Python {versions['python']}; peer: "
            + ("none" if peer is None else f"anomalib {peer['anomalib']}, torch {peer['torch']}"),
        )
    )


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[list[tuple[str, str]], bool]:
    """(row, what became of its ratio) for every row that had one, and whether any fell by more than TOLERANCE or is
    gone.

    Ratios within one run are compared, so that results of different days and machines can be. Raises InspectGanError
    when the old result was measured without a peer.
    """
    if old["peer"] is None:
        raise InspectGanError("the older result was measured without a peer, most of its ratios are missing")
    rows = {row["name"]: row for row in new["rows"]}
    lines, worse = [], False
    for before in old["rows"]:
        if before["ratio"] is None:
            continue
        now = rows.get(before["name"])
        if now is None or now["ratio"] is None:
            worse = True
            why = "no such row" if now is None else now["note"] or "not measured"
            lines.append((before["text"], f"{before['ratio']['median']:.2f}× before, now gone: {why}"))
            continue
        change = now["ratio"]["median"] / before["ratio"]["median"]
        fell = change < 1 - TOLERANCE
        worse |= fell
        verdict = f", WORSE by more than {TOLERANCE:.0%}" if fell else ""
        medians = f"{before['ratio']['median']:.2f}× before, {now['ratio']['median']:.2f}× now"
        lines.append((before["text"], f"{medians}: {change:.2f}{verdict}"))
    return lines, worse
