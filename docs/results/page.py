"""Writes the tables of nanotwice.md from the results beside it. Usage: python docs/results/page.py"""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean, stdev

HERE = Path(__file__).parent
PAGE = HERE / "nanotwice.md"
SWEEPS = ("nanotwice_recipes", "nanotwice_anogan")
PEER = HERE / "nanotwice_peer.json"
OWN = {
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "AUPRO",
    "patch_auroc": "patch AUROC",
    "coverage": "half covered",
    "coverage_from_0": "below 200 px",
    "calibrated_coverage": "at the threshold",
    "calibrated_fpr": "false alarms there",
}
PERCENT = ("coverage", "coverage_from_0", "calibrated_coverage", "calibrated_fpr")
Row = dict[str, str]


def rows() -> list[Row]:
    return [row for sweep in SWEEPS for row in csv.DictReader((HERE / sweep / "results.csv").open(encoding="utf-8"))]


def detectors(found: list[Row]) -> Iterator[list[str]]:
    """Each by the score of its recipe, the one whose defects were counted; best first, then what learns nothing."""
    own: dict[str, list[Row]] = {}
    for row in found:
        if row["coverage"]:
            own.setdefault(row["detector"], []).append(row)
    for name, mine in sorted(own.items(), key=lambda item: -values(item[1], "pixel_auroc")[0]):
        yield [f"`{name}`", f"`{mine[0]['score_name']}`", str(len(mine)), *(cell(mine, metric) for metric in OWN)]
    nothing = {row["score"]: row for row in found if row["status"] == "baseline"}
    for name in ("grey", "bright_smooth", "smooth", "pca_residual"):
        yield [f"{name} (no learning)", "", "", *(cell([nothing[name]], metric) for metric in OWN)]


def scores(found: list[Row]) -> Iterator[list[str]]:
    """Pixel AUROC of every score."""
    names = list(dict.fromkeys(row["score"] for row in found if row["status"] != "baseline"))
    yield ["detector", *(f"`{name}`" for name in names)]
    for detector in dict.fromkeys(row["detector"] for row in found if row["detector"]):
        mine = [row for row in found if row["detector"] == detector]
        cells = []
        for name in names:
            here = [row for row in mine if row["score"] == name]
            text = cell(here, "pixel_auroc")
            cells.append(f"{text} (`{here[0]['score_name']}`)" if here and name == "default" else text)
        yield [f"`{detector}`", *cells]


def peer() -> Iterator[list[str]]:
    record = json.loads(PEER.read_text(encoding="utf-8"))
    pixel = [f"{record[metric]['value']:.3f}" for metric in ("pixel_auroc", "pixel_ap", "pixel_aupro", "patch_auroc")]
    small = record["coverage"]["by_size"][0]
    yield [*pixel, *(f"{part['share_above_half']:.0%}" for part in (record["coverage"], small))]


def values(mine: list[Row], metric: str) -> list[float]:
    return [float(row[metric]) for row in mine if row[metric]]


def cell(mine: list[Row], metric: str) -> str:
    """Mean ± standard deviation over the seeds."""
    known = values(mine, metric)
    if not known:
        return "–"
    percent = metric in PERCENT
    parts = [mean(known), *([stdev(known)] if len(known) > 1 else [])]
    form = f".{1 if metric == 'calibrated_fpr' else 0}%" if percent else ".3f"
    return " ± ".join(format(part, form) for part in parts)


def table(header: Iterable[str], lines: Iterable[list[str]]) -> str:
    header = list(header)
    shown = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in shown)


def page(text: str) -> str:
    """The page with its tables made anew, each between two comments."""
    found = rows()
    header, *lines = scores(found)
    tables = {
        "detectors": table(["detector", "score", "n", *OWN.values()], detectors(found)),
        "scores": table(header, lines),
        "peer": table(list(OWN.values())[:6], peer()),
    }
    for name, content in tables.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = f"{before}{start}\n{content}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
