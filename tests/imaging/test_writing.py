"""Writing: whole or not at all, and nothing lost on the way."""

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import (
    atomic_bytes,
    atomic_file,
    atomic_text,
    make_folder,
    read_raw,
    remove_unfinished,
    write_png,
    write_tiff,
)


@pytest.mark.parametrize("data", [b"", b"\r\n\0\xff" * 1000])
def test_bytes_arrive_unchanged(tmp_path: Path, data: bytes) -> None:
    atomic_bytes(tmp_path / "a.bin", data)
    assert (tmp_path / "a.bin").read_bytes() == data
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_text_is_utf8_with_its_line_ends(tmp_path: Path) -> None:
    atomic_text(tmp_path / "a.txt", "µm\nx\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "µm\nx\r\n".encode()


def test_parent_folders_are_made_and_old_files_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x" / "y" / "a.txt"
    atomic_text(path, "old")
    atomic_text(str(path), "new")
    assert path.read_text() == "new"


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    atomic_bytes(tmp_path / "a", b"")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_the_old_file_and_no_trace(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(failure), atomic_file(path) as file:
        file.write(b"half of the n")
        file.flush()
        raise failure
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_reported_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(InspectGanError, match=r"a\.txt: cannot be written \(No space left"):
        atomic_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folders_that_cannot_be_written_to_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InspectGanError, match=r"file/a\.txt: cannot be written"):
        atomic_text(tmp_path / "file" / "a.txt", "x")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(InspectGanError, match="folder: cannot be written"):
        atomic_text(tmp_path / "folder", "x")
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["inner"]
    with pytest.raises(InspectGanError, match="file: cannot be written"):
        make_folder(tmp_path / "file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("a.txt", ".hidden.tmp", f".{'0' * 31}.tmp", f"{'0' * 32}.tmp")]
    for path in (*others, tmp_path / f".{'0' * 32}.tmp"):
        path.write_text("half")
    with atomic_file(tmp_path / "b.txt") as file:
        file.write(b"new")
        make_folder(tmp_path)  # as another process would
    assert set(tmp_path.iterdir()) == {*others, tmp_path / "b.txt"}
    assert (tmp_path / "b.txt").read_text() == "new"
    remove_unfinished(tmp_path / "missing")


IMAGES = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: st.one_of(
        arrays(dtype, array_shapes(min_dims=2, max_dims=2, max_side=9)),
        arrays(dtype, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))),
    )
)


@given(array=IMAGES)
def test_png_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_png(path, array)
    raw = read_raw(path)
    assert raw.array.dtype == array.dtype
    expected = array.reshape(*array.shape[:2], -1)
    np.testing.assert_array_equal(np.broadcast_to(raw.array, expected.shape), expected)


def test_png_colours_are_rgb(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.array([[[10, 20, 30]]], np.uint8))
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_COLOR)
    assert stored is not None
    assert stored[0, 0].tolist() == [30, 20, 10], "OpenCV reads blue first"


def test_png_writes_views(tmp_path: Path) -> None:
    array = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write_png(tmp_path / "a.png", array[::2, ::-1])
    np.testing.assert_array_equal(read_raw(tmp_path / "a.png").array[..., 0], array[::2, ::-1])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 3), bool),
        np.zeros((3, 3), np.float32),
        np.zeros((3, 3, 2), np.uint8),
        np.zeros((3, 3, 3, 3), np.uint8),
        np.zeros((0, 3), np.uint8),
        np.zeros(3, np.uint8),
    ],
)
def test_png_refuses_other_arrays(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8 or uint16"):
        write_png(tmp_path / "a.png", array)
    assert not list(tmp_path.iterdir())


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_tiff_keeps_every_float(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("tiff") / "a.tiff"
    write_tiff(path, array)
    np.testing.assert_array_equal(tifffile.imread(path).reshape(array.shape).view(np.uint32), array.view(np.uint32))


def test_tiff_is_plain(tmp_path: Path) -> None:
    flat = np.zeros((200, 300), np.float32)
    write_tiff(tmp_path / "a.tiff", flat)
    assert flat.nbytes < (tmp_path / "a.tiff").stat().st_size < flat.nbytes + 1000
    with tifffile.TiffFile(tmp_path / "a.tiff") as tif:
        assert (len(tif.pages), tif.pages[0].shape) == (1, (200, 300))
    write_tiff(tmp_path / "b.tiff", flat)
    assert (tmp_path / "a.tiff").read_bytes() == (tmp_path / "b.tiff").read_bytes()
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.tiff"), cv2.IMREAD_UNCHANGED), flat)


@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_images_come_back_as_they_were(tmp_path: Path, channels: int) -> None:
    array = np.random.default_rng(0).random((3, 5, channels), dtype=np.float32)
    write_tiff(tmp_path / "a.tiff", array)
    np.testing.assert_array_equal(read_raw(tmp_path / "a.tiff").array, array)


@pytest.mark.parametrize("array", [np.zeros((3, 3)), np.zeros((3, 3, 2), np.float32), np.zeros((0, 3), np.float32)])
def test_tiff_refuses_other_arrays(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected float32"):
        write_tiff(tmp_path / "a.tiff", array)
    assert not list(tmp_path.iterdir())
