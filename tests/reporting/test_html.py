import dataclasses
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from inspect_gan.imaging import write_png
from inspect_gan.reporting.html import REGIONS_SHOWN, write_report
from inspect_gan.reporting.tables import Inspection
from inspect_gan.reporting.viewer import write_thumbnail

HEADER = {
    "run": "fibres",
    "score": "residual",
    "stride": 4,
    "calibration": {
        "threshold": 0.0123456,
        "target_fpr": 0.01,
        "samples": 1320,
        "interval": (0.0061234, 0.016),
        "limits": {"area": 150},
    },
}
EVIL = "<img src=x onerror=alert(1)>\"'&{{ 7*7 }}#%20?.png"
VOID = {"meta", "img", "input", "br", "link"}


class Page(HTMLParser):
    """What a browser would see: tags with attributes, text, balanced nesting."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self.text += " " if tag in {"td", "th"} else ""

    def handle_data(self, data):
        if self._open[-1:] not in (["script"], ["style"]):
            self.text += data

    def all(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes[attribute] for name, attributes in self.tags if name == tag and attribute in attributes]


@pytest.fixture
def page(tmp_path):
    def build(inspections: list[Inspection], header: dict | None = None) -> Page:
        write_report(tmp_path / "report", inspections, HEADER if header is None else header)
        return Page(tmp_path / "report" / "report.html")

    return build


def words(text: str) -> str:
    return " ".join(text.split())


def test_summary(page, inspection):
    failed = Inspection(image=Path("torn.tif"), seconds=0, error="torn.tif: ends early")
    good = inspection("good.png", regions=())
    text = words(page([inspection(), good, good, failed]).text)
    for fact in (
        "Images 4",
        "Run fibres",
        "Score residual",
        "0.01235",
        "Target false-alarm rate 0.01",
        "interval of the false-alarm rate 0.006123 to 0.016",
        "samples behind the threshold 1320",
        "OK 2 REVIEW 0 NG 1 ERROR 1",
        "torn.tif: ends early",
        "calibration.limits.area 150",
    ):
        assert fact in text


def test_worst_images_come_first(page, inspection):
    regions = inspection().regions
    found = page(
        [
            inspection("ok.png", regions=(), map_max=1.2),
            inspection("review.png", regions=regions[1:], map_max=1.4),
            inspection("ng_weak.png", map_max=2.0),
            inspection("ng_strong.png", map_max=10.0),
            Inspection(image=Path("torn.png"), seconds=0, error="torn"),
        ]
    )
    assert found.all("tr", "data-verdict") == ["ERROR", "NG", "NG", "REVIEW", "OK"]
    names = re.findall(r"\w+\.png", found.text)
    assert names == ["torn.png", "ng_strong.png", "ng_weak.png", "review.png", "ok.png"]


def test_regions_are_listed(page, inspection):
    text = words(page([inspection()]).text.replace("\N{MULTIPLICATION SIGN}", "x"))
    assert "2 regions" in text
    assert "1 NG 3.5, 2.0 4 x 3 12 3 1.954 2.1" in text
    assert "2 REVIEW 12.0, 7.5 5 x 2 10 2.5 1.784 1.1" in text


def test_units_are_named(page, inspection):
    text = words(page([inspection()]).text)
    for shown in ("0.5 µm/px (FEI metadata)", "5.5 µm² 4e+04 defects/mm²", "Area µm² Diameter µm"):
        assert shown in text
    bare = tuple(dataclasses.replace(region, area_um2=None) for region in inspection().regions)
    text = words(page([inspection(regions=bare, um_per_px=None, um_per_px_origin=None)]).text)
    assert "µm" not in text
    assert "Diameter px" in text


def test_long_lists_are_cut_with_a_word_about_it(page, inspection):
    one = inspection().regions[0]
    many = tuple(dataclasses.replace(one, label=label) for label in range(1001, 1101))
    text = words(page([inspection(regions=many)], {}).text)
    assert "100 regions" in text
    assert f"The {REGIONS_SHOWN} worst are shown; all are in regions.csv" in text
    assert re.findall(r"\b1\d{3} NG", text) == [f"{label} NG" for label in range(1001, 1001 + REGIONS_SHOWN)]


def test_names_and_errors_are_text_never_markup(page, inspection, tmp_path):
    report = tmp_path / "report"
    harmless = page([inspection("a.png"), Inspection(image=Path("b"), seconds=0, error="b")], {"run": "r"})
    found = page(
        [
            inspection(EVIL, overlay=report / EVIL),
            Inspection(image=Path("<script>alert(1)<b>.png"), seconds=0, error="<script>alert(2)</script>"),
        ],
        {"run": "<script>alert(3)</script>", "<i>": "</table>"},
    )

    def shape(one: Page) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in one.tags if tag in {"script", "img", "a", "b", "i"}]

    assert shape(found) == shape(harmless)
    for text in (
        EVIL,
        "<script>alert(1)<b>.png",
        "<script>alert(2)</script>",
        "<script>alert(3)</script>",
        "</table>",
    ):
        assert text in found.text


@pytest.mark.parametrize("name", ["a b#c?d%41&é.png", "javascript:alert(1).png", EVIL, "日本.png"])
def test_links_lead_to_the_files(page, inspection, tmp_path, name):
    report = tmp_path / "report"
    found = page([inspection(name)])
    files = {report / "overlays" / name, report / "masks" / name, report / "maps" / f"{name}.tiff"}
    files |= {tmp_path / "images" / name} | {report / table for table in ("results.csv", "regions.csv", "results.json")}
    links = found.all("a", "href")
    for link in links:
        parts = urlsplit(link)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert "\\" not in link
    assert {Path(os.path.normpath(report / unquote(link))) for link in links} == files
    assert found.all("img", "src") == [found.all("a", "href")[0]]


def test_files_on_another_drive_are_linked_absolutely(page, inspection, monkeypatch, tmp_path):
    def other_drive(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    overlay = tmp_path / "report" / "overlays" / "part.png"
    assert page([inspection()]).all("img", "src") == [overlay.as_uri()]


def test_names_that_are_not_utf8_are_linked_by_their_bytes(page, inspection):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    found = page([inspection(name)])
    assert found.all("img", "src") == ["overlays/caf%E9.png"]
    assert "caf?.png" in found.text


def test_page_loads_nothing_from_elsewhere_and_pictures_only_when_seen(page, inspection, tmp_path):
    found = page([inspection("wide.png", width=5000, height=500), inspection("tall.png", width=10, height=4000)])
    sources = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//cdn|@import|url\(", sources)
    assert found.all("link", "href") == found.all("script", "src") == []
    assert found.all("img", "loading") == ["lazy", "lazy"]
    sizes = list(zip(found.all("img", "width"), found.all("img", "height"), strict=True))
    assert sizes == [("160", "16"), ("1", "120")]


def test_columns_can_be_sorted_with_unknown_values_marked(page, inspection):
    found = page([inspection(), inspection("torn.png", map_max=None, regions=(), error="torn")])
    keys = found.all("td", "data-sort")
    assert keys[:5] == ["../images/torn.png", "3", "", "", ""]
    assert keys[5:] == ["../images/part.png", "2", str(inspection().map_max), "11.0", "2"]
    assert set(found.all("button", "type")) == {"button"}


def test_the_table_shows_thumbnails_where_there_are_some(page, inspection, tmp_path):
    one, other = (tmp_path / "report" / "views" / name for name in ("one.js", "other.js"))
    write_thumbnail(one, np.zeros((10, 20, 3), np.uint8))
    found = page([inspection("one.png", view=one), inspection("other.png", view=other)])  # of an earlier version
    assert found.all("img", "src") == ["views/one.webp", "overlays/other.png"]
    assert found.all("a", "href")[0] == "overlays/one.png"


@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_sorts_and_filters_the_table(look, inspection, tmp_path, width):
    report = tmp_path / "report"
    names = (EVIL, "b2.png", "b10.png", f"{'long' * 40}.png")
    pictures = [report / "overlays" / f"{number}.png" for number in range(4)]
    for picture in pictures:
        write_png(picture, np.zeros((10, 20), dtype=np.uint8))
    inspections = [
        inspection(name, overlay=picture, map_max=peak)
        for name, picture, peak in zip(names, pictures, (9.0, 10.0, 8.0, 7.0), strict=True)
    ]
    torn = Inspection(image=tmp_path / "images" / "torn.png", seconds=0, error="<script>alert(2)</script>")
    write_report(report, [*inspections, torn], HEADER)
    seen = look(
        report / "report.html",
        """
        const rows = () => [...document.querySelectorAll("#images > tbody > tr")];
        const names = () => rows().map((row) => row.cells[1].dataset.sort.split("/").pop());
        const shown = () => rows().filter((row) => row.getClientRects().length);
        const search = document.querySelector(".filters input[type=search]");
        const look_for = (part) => { search.value = part; search.dispatchEvent(new Event("input", {bubbles: true})); };
        const [image, verdict, peak] = document.querySelectorAll("#images > thead button");
        const seen = {first: names(), scripts: document.scripts.length};
        image.click();
        seen.byName = names();
        peak.click();
        seen.highest = names();
        peak.click();
        seen.lowest = names();
        document.querySelector(".filters input[value=NG]").click();
        seen.withoutNg = shown().map((row) => row.dataset.verdict);
        look_for("B");
        seen.neither = shown().length;
        document.querySelector(".filters input[value=NG]").click();
        seen.called = shown().map((row) => row.cells[1].dataset.sort.split("/").pop());
        look_for("");
        seen.shown = shown().length;
        const details = document.querySelector("details");
        seen.closed = details.querySelectorAll("td").length;
        details.open = true;
        await new Promise((done) => setTimeout(done, 100));
        seen.listed = details.querySelectorAll("td").length;
        seen.overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        return seen;
        """,
        width,
    )
    evil, two, ten, long = names
    assert seen["scripts"] == 1
    assert seen["first"] == ["torn.png", two, evil, ten, long]
    assert seen["byName"] == [evil, two, ten, long, "torn.png"]
    assert seen["highest"] == [two, evil, ten, long, "torn.png"]  # unknown values last, both ways
    assert seen["lowest"] == [long, ten, evil, two, "torn.png"]
    assert seen["withoutNg"] == ["ERROR"]
    assert seen["neither"] == 0
    assert (seen["closed"], seen["listed"]) == (0, 8 * len(inspections[0].regions))
    assert seen["called"] == [ten, two]  # in the order of the table
    assert seen["shown"] == 5
    assert seen["overflow"] <= 0


def test_nothing_inspected(page):
    text = words(page([], {}).text)
    assert "Images 0" in text
    assert "No images were inspected." in text


def test_same_results_same_page(page, inspection, tmp_path):
    page([inspection()])
    first = (tmp_path / "report" / "report.html").read_bytes()
    page([inspection(seconds=9.0)])
    assert (tmp_path / "report" / "report.html").read_bytes() == first
