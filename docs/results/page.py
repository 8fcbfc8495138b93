"""Writes the tables of nanotwice.md from the results beside it. Usage: python docs/results/page.py"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import mean, stdev

from inspect_gan.pages.detector import measured, rows

HERE = Path(__file__).parent
PAGE = HERE / "nanotwice.md"
PEER = HERE / "nanotwice_peer.json"
METRICS = {
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
NOTHING = ("bright_smooth", "grey", "smooth", "pca_residual")
# Pixel AUROC on all 40 images.
PUBLISHED = {
    "CNN self-similarity, ImageNet weights (Napoletano et al. 2018)": 0.974,
    "SSIM autoencoder (Bergmann et al. 2019)": 0.966,
    "sparse dictionary (Carrera et al. 2017)": 0.926,
    "L2 autoencoder (Bergmann et al. 2019)": 0.688,
}
Row = dict[str, str]


def detectors() -> Iterator[list[str]]:
    """Each by the score of its recipe, beside what learns nothing, others' maps and published figures; best first."""
    found = measured(HERE)
    own: dict[str, list[Row]] = {}
    for row in found:
        if row["coverage"]:  # defects are counted for the score of the recipe
            own.setdefault(row["detector"], []).append(row)
    lines = [
        (average(mine), [f"**`{name}`**", f"`{mine[0]['score_name']}`", str(len(mine)), *cells(mine)])
        for name, mine in own.items()
    ]
    nothing = {row["score"]: row for row in found if row["status"] == "baseline"}
    lines += [
        (average([nothing[name]]), [f"{name} (no learning)", "", "", *cells([nothing[name]])]) for name in NOTHING
    ]
    theirs = peer()
    lines.append((average([theirs]), ["anomalib's GANomaly", "its own", "1", *cells([theirs])]))
    lines += [(value, [name, "", "", f"{value:.3f} (40 images)", *["–"] * 7]) for name, value in PUBLISHED.items()]
    yield ["detector", "score", "n", *METRICS.values()]
    yield from (line for _, line in sorted(lines, key=lambda line: -line[0]))


def scores() -> Iterator[list[str]]:
    """Pixel AUROC of every score that was asked for, the paper's by its own name."""
    found = [row for row in rows(HERE / "nanotwice_scores") if row["status"] != "baseline"]
    names = [name for name in dict.fromkeys(row["score"] for row in found) if name != "default"]
    yield ["detector", "its paper's score", *(f"`{name}`" for name in names)]
    for detector in dict.fromkeys(row["detector"] for row in found):
        mine = {
            name: [row for row in found if (row["detector"], row["score"]) == (detector, name)]
            for name in ("default", *names)
        }
        paper, *others = (cell(of_score, "pixel_auroc") for of_score in mine.values())
        yield [f"`{detector}`", f"{paper} (`{mine['default'][0]['score_name']}`)", *others]


def surfaces() -> Iterator[list[str]]:
    """On each surface the default recipe in its 20 minutes, all recipes in six, and what learns nothing; best first."""
    minutes = {"surfaces": "20", "surfaces_recipes": "6"}
    found = [(minutes[sweep], row) for sweep in minutes for row in rows(HERE / sweep)]
    yield ["surface", "detector", "score", "minutes", "n", *METRICS.values(), "image AUROC"]
    for data in dict.fromkeys(row["data"] for _, row in found):
        groups: dict[tuple[str, ...], list[Row]] = {}
        for spent, row in found:
            if row["data"] != data:
                continue
            if row["coverage"]:  # defects are counted for the score of the recipe
                groups.setdefault((f"**`{row['detector']}`**", f"`{row['score_name']}`", spent), []).append(row)
            elif row["status"] == "baseline" and row["score"] in NOTHING:  # the same in every sweep
                groups[f"{row['score']} (no learning)", "", ""] = [row]
        for label, mine in sorted(groups.items(), key=lambda group: -average(group[1])):
            count = str(len(mine)) if label[1] else ""
            yield [data, *label, count, *cells(mine), cell(mine, "image_auroc")]


def peer() -> Row:
    """The measured maps of anomalib's GANomaly, as a row of a sweep."""
    record = json.loads(PEER.read_text(encoding="utf-8"))
    found = {name: str(record[name]["value"]) for name in ("pixel_auroc", "pixel_ap", "pixel_aupro", "patch_auroc")}
    covered = record["coverage"]
    return found | {
        "coverage": str(covered["share_above_half"]),
        "coverage_from_0": str(covered["by_size"][0]["share_above_half"]),
    }


def average(mine: list[Row]) -> float:
    return mean(float(row["pixel_auroc"]) for row in mine)


def cells(mine: list[Row]) -> list[str]:
    return [cell(mine, metric) for metric in METRICS]


def cell(mine: list[Row], metric: str) -> str:
    """Mean ± standard deviation over the seeds."""
    known = [float(row[metric]) for row in mine if row.get(metric)]
    if not known:
        return "–"
    form = f".{1 if metric == 'calibrated_fpr' else 0}%" if metric in PERCENT else ".3f"
    return " ± ".join(format(part, form) for part in (mean(known), *([stdev(known)] if len(known) > 1 else [])))


def table(lines: Iterable[list[str]]) -> str:
    header, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rest))


def page(text: str) -> str:
    """The page with its tables made anew, each between two comments."""
    for make in (detectors, scores, surfaces):
        before, start, rest = text.partition(f"<!-- {make.__name__} -->\n")
        _, end, after = rest.partition(f"<!-- end of {make.__name__} -->")
        text = f"{before}{start}\n{table(make())}\n\n{end}{after}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
