"""NanoTWICE: the right archive arrives whole; a broken, false or hostile one leaves nothing behind."""

import hashlib
import io
import socket
import stat
import struct
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.datasets import nanotwice, open_dataset
from inspect_gan.errors import InspectGanError

COUNTS = nanotwice.Counts(2, 3, 3)
RNG = np.random.default_rng(5)
Answer = Callable[[BaseHTTPRequestHandler], None]


def archive_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name, data in files.items():
            target.writestr(name, data)
    return buffer.getvalue()


def dataset_files(prefix: str = "") -> dict[str, bytes]:
    """File names as in the real archive with bytes that stand for images."""
    names = [f"Normal/ITIA114{i}.tif" for i in range(COUNTS.normal)]
    names += [f"Anomalous/images/ITIA110{i}.tif" for i in range(COUNTS.images)]
    names += [f"Anomalous/gt/ITIA110{i}_gt.png" for i in range(COUNTS.masks)]
    return {prefix + name: RNG.bytes(2000) for name in names}


def unpack(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "data.zip").write_bytes(data)
    return nanotwice.unpack(tmp_path / "data.zip", tmp_path / "out", counts=COUNTS)


def refused(tmp_path: Path, data: bytes, *words: str) -> None:
    with pytest.raises(InspectGanError) as caught:
        unpack(tmp_path, data)
    for word in ("data.zip", ";", *words):
        assert word in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["data.zip"], "nothing but the archive remains"


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# Unpacking


@pytest.mark.parametrize("prefix", ["", "dfg05er_Data/", "a/b/"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_are_unpacked_to_one_shape(tmp_path: Path, prefix: str, compression: int) -> None:
    files = dataset_files()
    out = unpack(tmp_path, archive_of({prefix + name: data for name, data in files.items()}, compression))
    assert out == tmp_path / "out"
    assert contents(out) == files
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data.zip", "out"]
    (tmp_path / "plain").mkdir()
    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode, "readable like any other folder"
    data = open_dataset(out)
    assert (data.layout, len(data.train), len(data.test)) == ("nanotwice", 2, 3)
    assert all(s.mask and s.mask.stem == f"{s.image.stem}_gt" for s in data.test)


def test_other_entries_are_left_out(tmp_path: Path) -> None:
    files = dataset_files()
    litter = {
        "readme.txt": b"x",
        "Normal/Thumbs.db": b"x",
        "__MACOSX/Normal/._ITIA1140.tif": b"x",
        "Normal/": b"",
    }
    assert contents(unpack(tmp_path, archive_of(files | litter))) == files


def test_folder_names_in_another_case(tmp_path: Path) -> None:
    files = dataset_files()
    renamed = {name.replace("Normal", "normal").replace("gt/", "GT/"): data for name, data in files.items()}
    assert contents(unpack(tmp_path, archive_of(renamed))) == files


def test_an_empty_target_is_used_and_a_full_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    unpack(tmp_path, archive_of(dataset_files()))
    before = contents(tmp_path / "out")
    with pytest.raises(InspectGanError, match="out: exists already;"):
        unpack(tmp_path, archive_of(dataset_files()))
    assert contents(tmp_path / "out") == before


def test_wrong_counts_are_named(tmp_path: Path) -> None:
    files = dataset_files()
    del files["Anomalous/gt/ITIA1101_gt.png"]
    refused(tmp_path, archive_of(files), "2 in Anomalous/gt (expected 3)", "2 in Normal (expected 2)")
    refused(tmp_path, archive_of({"photo.png": RNG.bytes(10)}), "0 in Normal (expected 2)")


def test_masks_of_other_images_are_refused(tmp_path: Path) -> None:
    files = dataset_files()
    files["Anomalous/gt/ITIA1199_gt.png"] = files.pop("Anomalous/gt/ITIA1101_gt.png")
    refused(tmp_path, archive_of(files), "ITIA1101_gt")


def test_the_same_file_in_two_folders_is_refused(tmp_path: Path) -> None:
    files = dataset_files()
    files["copy/Normal/ITIA1140.tif"] = b"other"
    refused(tmp_path, archive_of(files), "Normal/ITIA1140.tif more than once")


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cron.d/x",
        "../x.png",
        "Normal/../../x.png",
        "C:/x.png",
        "..\\x.png",
        "Normal/x:stream.tif",
        "Normal/\tx.tif",
    ],
)
def test_paths_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    refused(tmp_path, archive_of(dataset_files() | {name: b"x"}), repr(name))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    buffer = io.BytesIO(archive_of(dataset_files()))
    with zipfile.ZipFile(buffer, "a") as target:
        entry = zipfile.ZipInfo("Normal/link.tif")
        entry.external_attr = (kind | 0o777) << 16
        target.writestr(entry, "/etc/passwd")
    refused(tmp_path, buffer.getvalue(), "link or device")


def test_encrypted_entries_are_refused(tmp_path: Path) -> None:
    data = bytearray(archive_of(dataset_files()))
    data[data.index(b"PK\x01\x02") + 8] |= 1  # general purpose flag of the first central directory entry
    refused(tmp_path, bytes(data), "encrypted")


def test_bombs_are_refused_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dataset_files()
    refused(tmp_path, archive_of(files | {"zeros.bin": bytes(10_000_000)}), "would unpack to")
    monkeypatch.setattr(nanotwice, "MAX_BYTES", 10_000)
    refused(tmp_path, archive_of(files), "would unpack to 16000")


def test_a_false_size_does_not_pass(tmp_path: Path) -> None:
    files = dataset_files()
    data = bytearray(archive_of(files))
    start = data.index(b"PK\x01\x02")
    data[start + 24 : start + 28] = struct.pack("<I", 100)  # the first entry says 100 bytes and holds 2000
    refused(tmp_path, bytes(data), "no whole zip archive")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_is_noticed(tmp_path: Path, compression: int) -> None:
    data = bytearray(archive_of(dataset_files(), compression))
    data[900:950] = bytes(50)
    refused(tmp_path, bytes(data), "no whole zip archive")


@pytest.mark.parametrize("length", [0, 3, 1000, -1])
def test_truncated_archives_are_refused(tmp_path: Path, length: int) -> None:
    refused(tmp_path, archive_of(dataset_files())[:length], "no whole zip archive")


def test_a_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(InspectGanError, match=r"none\.zip: no such file;"):
        nanotwice.unpack(tmp_path / "none.zip", tmp_path / "out")


# Downloading


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/data.zip"
        finally:
            running.shutdown()
            thread.join()


def send(data: bytes, *, status: int = 200, length: int | None = -1, content: str = "application/zip") -> Answer:
    """An answer with the body `data`; `length`: what the header claims, -1 the truth, None no header."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Type", content)
        if length is not None:
            request.send_header("Content-Length", str(len(data) if length == -1 else length))
        request.end_headers()
        request.wfile.write(data)

    return answer


def download_refused(tmp_path: Path, answer: Answer, *words: str) -> None:
    with server(answer) as url:
        with pytest.raises(InspectGanError) as caught:
            nanotwice.download(tmp_path / "out", url, counts=COUNTS)
        for word in (url, "by hand", *words):
            assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize("length", [-1, None])
def test_download(tmp_path: Path, length: int | None) -> None:
    files = dataset_files("dfg05er_Data/")
    data = archive_of(files)
    steps: list[tuple[int, int]] = []
    with server(send(data, length=length)) as url:
        out = nanotwice.download(
            tmp_path / "new" / "out",
            url,
            expected_sha256=hashlib.sha256(data).hexdigest().upper(),
            progress=lambda done, total: steps.append((done, total)),
            counts=COUNTS,
        )
    assert contents(out) == {name.removeprefix("dfg05er_Data/"): data for name, data in files.items()}
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert steps[-1] == (len(data), 0 if length is None else len(data))
    assert steps == sorted(steps)


def test_download_checks_the_digest(tmp_path: Path) -> None:
    data = archive_of(dataset_files())
    with server(send(data)) as url, pytest.raises(InspectGanError, match=hashlib.sha256(data).hexdigest()):
        nanotwice.download(tmp_path / "out", url, expected_sha256="0" * 64, counts=COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_download_of_other_things(tmp_path: Path) -> None:
    download_refused(tmp_path, send(b"gone", status=404), "404")
    download_refused(tmp_path, send(b"<!DOCTYPE html><html>Sign in</html>", content="text/html"), "a web page")
    download_refused(tmp_path, send(b"", length=None), "no whole zip archive")


def test_download_that_breaks_off(tmp_path: Path) -> None:
    data = archive_of(dataset_files())
    half = data[: len(data) // 2]
    download_refused(tmp_path, send(half, length=len(data)), f"{len(half)} of {len(data)} bytes")
    download_refused(tmp_path, send(half, length=None), "no whole zip archive")


def test_download_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download_refused(tmp_path, send(b"PK", length=nanotwice.MAX_BYTES + 1), "more than")
    monkeypatch.setattr(nanotwice, "MAX_BYTES", 10_000)
    download_refused(tmp_path, send(bytes(10_001), length=None), "more than 10000 bytes")


def test_download_from_a_silent_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nanotwice, "TIMEOUT", 0.1)
    wait = threading.Event()

    def silent(request: BaseHTTPRequestHandler) -> None:
        wait.wait(10)

    with server(silent) as url:
        with pytest.raises(InspectGanError, match="timed out"):
            nanotwice.download(tmp_path / "out", url)
        wait.set()
    assert list(tmp_path.iterdir()) == []


def test_download_from_nowhere(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/data.zip"
    with pytest.raises(InspectGanError, match="cannot be downloaded"):
        nanotwice.download(tmp_path / "out", url)
    for address in ("file:///etc/passwd", "ftp://host/x.zip", "data.zip"):
        with pytest.raises(InspectGanError, match="not a web address"):
            nanotwice.download(tmp_path / "out", address)
    assert list(tmp_path.iterdir()) == []


def test_a_full_target_is_refused_before_the_download(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    asked: list[str] = []
    with (
        server(lambda request: asked.append(request.path)) as url,
        pytest.raises(InspectGanError, match="exists already"),
    ):
        nanotwice.download(tmp_path / "out", url)
    assert asked == []
