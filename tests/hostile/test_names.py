"""File names of strangers reach tables, pages and terminals as text, and no file is lost or waited for because of its
name or kind."""

import csv
import html.parser
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.console import PlainConsole
from inspect_gan.datasets.patch_files import write_patches
from inspect_gan.datasets.samples import find_images, names, unique_stems
from inspect_gan.imaging import write_png
from inspect_gan.inspection import collect_images, inspect_images
from inspect_gan.inspector import Inspector

HOSTILE = [
    b"=cmd|' ' !A0.png",
    b"+1.png",
    b"-1.png",
    b"@sum.png",
    b"\ttab.png",
    b"\rreturn.png",
    b"two\nlines.png",
    b"quo'te\".png",
    b"<script>alert(1)<;.png",
    b"<img src=x onerror=alert(1)>.png",
    b"{{7*7}}.png",
    b"not\xff\xfeutf8.png",
    b"\x1b[2J\x1b]0;title\x07.png",
    b"c1\xc2\x9b31m.png",
    b"turn\xe2\x80\xaegnp.png",
    b"[red]markup[bold].png",
    b":warning:.png",
    b"x" * 251 + b".png",
    "ü".encode() * 125 + b".png",
    b"same.png",
    b"same.tif",
    b"SAME.png",
    "\u00e4.png".encode(),
    "a\u0308.png".encode(),
]


class Page(html.parser.HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strangers") / "new"
    folder.mkdir()
    image = folder / "a.png"
    write_png(image, np.random.default_rng(1).integers(0, 256, (40, 40), dtype=np.uint8))
    for name in HOSTILE:
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(image.read_bytes())
    image.unlink()
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "nowhere.png").symlink_to("gone")
    (folder / "device.png").symlink_to("/dev/zero")
    (folder / "empty.png").touch()
    (folder / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s.png"))
    return folder


BAD = {"pipe.png", "loop.png", "nowhere.png", "device.png", "empty.png", "s.png"}


def test_every_file_is_inspected_or_has_its_error(trained: Path, images: Path, tmp_path: Path) -> None:
    said: list[str] = []
    paths = collect_images([images], tmp_path)
    assert len(paths) == len(HOSTILE) + len(BAD)
    found = inspect_images(Inspector.load(trained), paths, tmp_path, progress=said.append)
    assert sum(found.values()) == len(paths)
    assert found["ERROR"] == len(BAD)
    for folder in ("maps", "masks", "overlays"):
        assert len(os.listdir(tmp_path / folder)) == len(HOSTILE), "no file took another one's place"
    assert len(said) == len(paths)
    assert all(line.isprintable() for line in said)
    rows = list(csv.DictReader((tmp_path / "results.csv").open(encoding="utf-8", newline="")))
    assert len(rows) == len(paths)
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@", "\t", "\r", "\n"))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1, "the page's own"
    assert "onerror" not in page.attributes
    assert "<script>alert(1)<;.png" in page.text
    assert "{{7*7}}.png" in page.text


def test_whatever_is_printed_a_terminal_takes_it() -> None:
    code = (
        "from inspect_gan.console import PlainConsole\n"
        "PlainConsole().print('a[/b]\\x1b[31m\\udcff :warning: x\\nsecond')\n"
        "from inspect_gan.tools.cli import main\n"
        "main(['defect_map', 'no\\udcff\\x1b[2Jrun', 'x', '--out', 'y'])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert done.stdout.splitlines() == [b"a[/b]\\x1b[31m\\udcff :warning: x", b"second"]
    assert done.returncode == 2
    assert b"no\\udcff\\x1b[2Jrun is not a run directory" in done.stderr
    assert b"\x1b[2J" not in done.stderr


def test_plain_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    PlainConsole().print("grüße 測定", "a" * 300)
    assert capsys.readouterr().out == "grüße 測定 " + "a" * 300 + "\n"


def test_names_in_messages_are_one_line() -> None:
    assert names([Path("a\nb.png"), Path("\x1b[2J.png")]) == "a\\nb.png, \\x1b[2J.png"


def test_stems_are_unique_short_and_keep_what_they_can() -> None:
    paths = [Path(os.fsdecode(name)) for name in HOSTILE]
    stems = unique_stems(paths)
    assert len({stem.casefold() for stem in stems}) == len(paths)
    assert all(len(os.fsencode(f"{stem}_00000_00000.tiff")) <= 255 for stem in stems)
    assert unique_stems([Path("a.png"), Path("b/a.tif"), Path("A.bmp"), Path("a-2.png")]) == [
        "a",
        "a-2",
        "A-3",
        "a-2-2",
    ]


def test_patches_of_images_that_share_a_stem_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for number, name in enumerate(("a.png", "a.bmp")):
        write_png(folder / name, np.full((16, 16), 50 * number + 50, np.uint8))
    assert write_patches(folder, tmp_path / "patches", size=8, stride=8) == 8
    assert len(os.listdir(tmp_path / "patches")) == 8


def test_folders_that_link_to_each_other_are_searched_once(tmp_path: Path) -> None:
    """The ways through n folders with links to all others are n! and more."""
    for i in range(12):
        write_png(tmp_path / f"d{i}" / "image.png", np.zeros((2, 2), np.uint8))
        for j in range(12):
            (tmp_path / f"d{i}" / f"to{j}").symlink_to(tmp_path / f"d{j}")
    found = find_images(tmp_path, recursive=True).images
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [f"d{i}/image.png" for i in range(12)]


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is readable for the superuser")
def test_files_without_permission_are_named(tmp_path: Path) -> None:
    from inspect_gan.imaging import read
    from tests.hostile.conftest import refused

    path = tmp_path / "a.png"
    write_png(path, np.zeros((2, 2), np.uint8))
    path.chmod(0)
    assert "permissions" in str(refused(lambda: read(path), path))
