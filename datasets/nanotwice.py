"""Fetch NanoTWICE: scanning electron microscope images of nanofibres, with masks of their defects.

D. Carrera, F. Manganini, G. Boracchi, E. Lanzarone, "Defect Detection in SEM Images of Nanofibrous
Materials", IEEE Transactions on Industrial Informatics 13(2), 2017: 5 normal and 40 anomalous images. The
data belong to their authors and are no part of this project; see their terms before publishing pictures.
"""

import hashlib
import http.client
import os
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.reading import IMAGE_SUFFIXES

URL = "http://web.mi.imati.cnr.it/ettore/NanoTWICE/dfg05er_Data.zip"
MAX_BYTES = 1 << 30  # of the archive, and of what it unpacks to; the data set is about 30 MB
MAX_RATIO = 100  # unpacked bytes for each packed one
TIMEOUT = 30.0  # seconds without a byte from the server

_BLOCK = 1 << 18
_BY_HAND = "download the archive by hand and pass the file"
_ORIGINAL = "do not use it, get the original archive"


class Counts(NamedTuple):
    """Numbers of files in Normal, Anomalous/images and Anomalous/gt."""

    normal: int
    images: int
    masks: int


COUNTS = Counts(5, 40, 40)
_FOLDERS = ("Normal", "Anomalous/images", "Anomalous/gt")


def download(
    out: Path,
    url: str = URL,
    *,
    expected_sha256: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    counts: Counts = COUNTS,
) -> Path:
    """Download the archive and unpack it to the new folder `out`, which is returned.

    expected_sha256: hexadecimal digest the archive must have. progress: called with (bytes so far, bytes in
    all), the latter 0 if the server does not say. counts: see `unpack`.

    Raises InspectGanError when the server cannot be reached or sends anything but the whole archive, and as
    `unpack` does. Nothing is left behind then.
    """
    out = Path(out)
    digest = hashlib.sha256()
    with _staging(out) as staging:
        archive = staging / "archive.zip"
        with archive.open("wb") as file:
            for block in _fetch(url, progress):
                digest.update(block)
                file.write(block)
        if expected_sha256 and digest.hexdigest() != expected_sha256.lower():
            raise InspectGanError(
                f"{url}: the archive's SHA-256 is {digest.hexdigest()} instead of {expected_sha256}, so "
                f"it is not the expected file; try again, or {_BY_HAND}"
            )
        _unpack(archive, url, staging / "data", counts)
        _publish(staging / "data", out)
    return out


def unpack(archive: Path, out: Path, *, counts: Counts = COUNTS) -> Path:
    """Unpack a NanoTWICE zip file to the new folder `out`, which is returned.

    The folders Normal, Anomalous/images and Anomalous/gt may lie inside others in the archive. Only their
    images are unpacked, and `out` appears when all are there. counts: how many files each folder must hold.

    Raises InspectGanError when `out` holds files; when the archive is damaged, encrypted, too large, or
    holds links or paths that lead outside; when the counts or the names of images and masks do not match.
    """
    archive, out = Path(archive), Path(out)
    if not archive.is_file():
        raise InspectGanError(f"{archive}: no such file; name the downloaded zip archive")
    with _staging(out) as staging:
        _unpack(archive, str(archive), staging / "data", counts)
        _publish(staging / "data", out)
    return out


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, which must hold nothing yet. Turns OSError into InspectGanError."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InspectGanError(f"{out}: exists already; remove it or choose another folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nanotwice-", dir=out.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise InspectGanError(f"{out}: cannot be made ({error}); free some space or choose another folder") from error


def _publish(data: Path, out: Path) -> None:
    if out.exists():
        out.rmdir()  # empty, else _staging would have refused
    os.replace(data, out)


def _fetch(url: str, progress: Callable[[int, int], None] | None) -> Iterator[bytes]:
    """The bytes behind a URL, in blocks. Raises InspectGanError unless all of them arrive."""
    if not url.lower().startswith(("http://", "https://")):
        raise InspectGanError(f"{url}: not a web address; it must start with http:// or https://")
    request = urllib.request.Request(url, headers={"User-Agent": "inspect-gan"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0)
            done = 0
            while block := response.read(_BLOCK):
                done += len(block)
                if max(done, total) > MAX_BYTES:
                    raise InspectGanError(f"{url}: more than {MAX_BYTES} bytes, so not this data set; {_BY_HAND}")
                if progress:
                    progress(done, total)
                yield block
    except urllib.error.HTTPError as error:
        raise InspectGanError(f"{url}: the server answered {error.code} {error.reason}; {_BY_HAND}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InspectGanError(f"{url}: cannot be downloaded ({reason}); try again, or {_BY_HAND}") from error
    if done < total:
        raise InspectGanError(f"{url}: broke off after {done} of {total} bytes; try again, or {_BY_HAND}")


def _unpack(archive: Path, origin: str, data: Path, counts: Counts) -> None:
    """Unpack to the folder `data`; messages call the archive `origin`."""
    try:
        with zipfile.ZipFile(archive) as source:
            _refuse_hostile(origin, source.infolist())
            for entry, target in _targets(origin, source.infolist(), counts):
                (data / target).parent.mkdir(parents=True, exist_ok=True)
                with source.open(entry) as packed, (data / target).open("wb") as file:
                    shutil.copyfileobj(packed, file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        with archive.open("rb") as file:
            start = file.read(512).lower()
        is_page = b"<html" in start or b"<!doctype" in start
        what = "a web page, not a zip archive" if is_page else f"no whole zip archive ({error})"
        raise InspectGanError(f"{origin}: {what}; {_BY_HAND}") from error


def _refuse_hostile(origin: str, entries: list[zipfile.ZipInfo]) -> None:
    """Archives of images need no links, no paths that lead outside, no encryption, no extreme compression."""
    for entry in entries:
        name = entry.orig_filename
        if "\\" in name or ":" in name or any(ord(letter) < 32 for letter in name):
            fault = "has an unsafe name"
        elif name.startswith("/") or ".." in PurePosixPath(name).parts:
            fault = "leads outside the folder"
        elif stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "is a link or device"
        elif entry.flag_bits & 0x1:
            fault = "is encrypted"
        else:
            continue
        raise InspectGanError(f"{origin}: the entry {name!r} {fault}; {_ORIGINAL}")
    size = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if size > MAX_BYTES or size > MAX_RATIO * packed:
        raise InspectGanError(f"{origin}: {packed} bytes would unpack to {size}, so not this data set; {_ORIGINAL}")


def _targets(
    origin: str, entries: Iterable[zipfile.ZipInfo], counts: Counts
) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """(entry, path in the unpacked folder) of every image; refuses wrong counts and unpaired names."""
    found: dict[str, dict[str, zipfile.ZipInfo]] = {folder: {} for folder in _FOLDERS}
    for entry in entries:
        path = PurePosixPath(entry.filename)
        hidden = path.name.startswith(".") or "__MACOSX" in path.parts
        if entry.is_dir() or hidden or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        parent = f"/{path.parent.as_posix()}".casefold()
        for folder, files in found.items():
            if parent.endswith(f"/{folder}".casefold()) and files.setdefault(path.name, entry) is not entry:
                raise InspectGanError(f"{origin}: holds {folder}/{path.name} more than once; {_ORIGINAL}")
    held = [f"{len(found[folder])} in {folder} (expected {n})" for folder, n in zip(found, counts, strict=True)]
    if tuple(len(files) for files in found.values()) != counts:
        raise InspectGanError(f"{origin}: not the NanoTWICE images: {', '.join(held)}; {_ORIGINAL}")
    _, images, masks = ({PurePosixPath(name).stem for name in files} for files in found.values())
    if unpaired := {f"{stem}_gt" for stem in images} ^ masks:
        raise InspectGanError(
            f"{origin}: {len(unpaired)} masks or images lack their partner ({min(unpaired)}); {_ORIGINAL}"
        )
    return [(entry, PurePosixPath(folder) / name) for folder, files in found.items() for name, entry in files.items()]
