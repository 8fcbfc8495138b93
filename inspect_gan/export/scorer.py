"""Inspect images with an exported file. Needs ONNX Runtime and none of torch."""

import functools
import json
import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from inspect_gan.base_inspector import BaseInspector
from inspect_gan.documents import parse_json
from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import memory_left
from inspect_gan.imaging.info_bar import InfoBar
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import iterate_patches
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.maps import MapMaker, MapSettings
from inspect_gan.settings import Settings

SUFFIX = ".onnx"
PROGRAM_SUFFIX = ".pt2"  # of what torch.export writes, for programs of others
FORMAT = "inspect-gan-export-1"
# The key of what is beside the graph among the file's metadata.
METADATA = "inspect_gan"
INPUT = "patches"
BATCH = 64  # larger ones are no faster and take more memory
BATCH_SECONDS = 600.0  # an honest graph takes seconds for a batch, on a machine that is busy with other work minutes
OUT_OF_MEMORY = "Available memory of"  # how the runtime's message about it begins


class ExportedInspector(BaseInspector):
    """Inspects with the one score, stride and threshold that the file was exported with."""

    def __init__(self, path: Path):
        """Raises InspectGanError when the file is missing, not an exported detector, or of another version."""
        self._path = path
        if not path.is_file():
            raise InspectGanError(f"{path} does not exist: give the file that `export --out` wrote")
        try:
            session = open_session(path.read_bytes(), str(path))
        except OSError as error:
            raise InspectGanError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
        try:
            beside = session.get_modelmeta().custom_metadata_map.get(METADATA)
            if beside is None:
                raise InspectGanError(f"{path} was not written by `inspect-gan export`: export the run into a new file")
            found = parse_json(beside)
            if found["format"] != FORMAT:
                raise InspectGanError(
                    f"{path} has format {found['format']}, this version reads {FORMAT}: export the run again"
                )
            about = _Metadata.model_validate(found)
            self._calibration = Calibration.read(about.calibration)
            _check_graph(session, about.preprocess, self._calibration.score)
        except (ValueError, KeyError, TypeError) as error:
            why = " ".join(str(error).split())
            raise InspectGanError(f"{path} is damaged ({why}): export the run again") from error
        self.name, self.detector_name = about.run, about.detector
        self.page, self.info_bar, self.health = about.page, about.info_bar, about.health
        self.predictor = ExportedPredictor(session, about.preprocess)

    def calibration(
        self, score: str | None = None, stride: int | None = None, target_fpr: float | None = None
    ) -> Calibration:
        """The file's own. Raises InspectGanError for another score, stride or rate."""
        mine = self._calibration
        for option, wanted, has in (
            ("--score", score, mine.score),
            ("--stride", stride, mine.stride),
            ("--target-fpr", target_fpr, mine.target_fpr),
        ):
            if wanted is not None and wanted != has:
                raise InspectGanError(
                    f"{self._path} was exported for {option} {has}, not {wanted}: export the run again with {option} "
                    f"{wanted}, or give the run directory"
                )
        return mine


class ExportedPredictor(MapMaker):
    """Scores patches with the graph in an ONNX file, in float32."""

    def __init__(self, session: Any, preprocess: Preprocess):
        super().__init__(preprocess, BATCH)
        self._session = session

    def _scores(
        self, pixels: np.ndarray, grid: Grid, names: Sequence[str], settings: MapSettings
    ) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        for start, patches in iterate_patches(pixels, grid, self._batch_size):
            values = run_session(self._session, patches, names)
            maps = {name: value for name, value in values.items() if value.ndim == 3}
            patch = {name: value.mean((1, 2)) if value.ndim == 3 else value for name, value in values.items()}
            yield start, patch, maps


class _Metadata(Settings):
    """What stands beside the graph."""

    format: str
    run: str
    detector: str
    page: int | None = Field(ge=1)
    info_bar: InfoBar = "none"
    health: str | None = None
    preprocess: Preprocess
    calibration: dict[str, Any]


def _check_graph(session: Any, preprocess: Preprocess, score: str) -> None:
    """Raises ValueError unless the graph takes the patches of `preprocess` and gives the score."""
    wanted = [preprocess.size, preprocess.size, preprocess.channels]
    (given,) = session.get_inputs() if len(session.get_inputs()) == 1 else [None]
    if given is None or given.name != INPUT or given.shape[1:] != wanted or isinstance(given.shape[0], int):
        raise ValueError(f"its graph does not take (n, {', '.join(map(str, wanted))}) as '{INPUT}'")
    if [output.name for output in session.get_outputs()] != [score]:
        raise ValueError(f"its graph does not give '{score}' alone")


def open_session(model: bytes, name: str = "the exported graph") -> Any:
    """An ONNX Runtime session on the processor. model: content of a file. name: of it, for messages.

    Raises InspectGanError when the package is missing, or the model cannot be read or keeps a part of itself in other
    files.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise InspectGanError(
            "exported detectors need ONNX Runtime: pip install 'inspect-gan[export]', or give the run directory"
        ) from error
    options = onnxruntime.SessionOptions()
    # As torch, which also takes the first of a list; 0, and whatever is no number: one for each core.
    threads = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    options.intra_op_num_threads = int(threads) if threads.isdecimal() else 0
    options.log_severity_level = 4
    # Weights outside the file are looked for in a folder that cannot be there.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", f"{os.devnull}/none")
    _bound_memory()
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own types are not public
        raise InspectGanError(f"{name} is no readable ONNX file ({' '.join(str(error).split())[:200]})") from error


@functools.cache
def _bound_memory() -> None:
    """All graphs of this process together take at most half of the memory that is left when the first one is opened."""
    import onnxruntime

    left = memory_left()
    with suppress(RuntimeError):  # of versions that keep the allocator another package registered in this process
        onnxruntime.create_and_register_allocator(
            onnxruntime.OrtMemoryInfo(
                "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
            ),
            onnxruntime.OrtArenaCfg({"max_mem": 0 if math.isinf(left) else int(left / 2)}),  # 0: without end
        )


def run_session(session: Any, patches: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
    """patches: (n, S, S, C) float32 as `Preprocess.image` makes them. {name: (n,) or (n, S, S)} float32.

    Raises InspectGanError when the graph fails, does not end, or gives something else.
    """
    import onnxruntime

    limit = BATCH_SECONDS * max(len(patches) / BATCH, 1)
    options = onnxruntime.RunOptions()
    stop = threading.Timer(limit, setattr, (options, "terminate", True))
    stop.daemon = True
    stop.start()
    try:
        found = session.run(list(names), {INPUT: patches}, options)
    except Exception as error:  # the runtime's own types are not public
        if options.terminate:
            raise InspectGanError(
                f"the exported graph has not scored {len(patches)} patches within {limit:g} s and was stopped: export "
                "the run again, or give the machine less to do beside it"
            ) from error
        if OUT_OF_MEMORY in str(error):
            raise InspectGanError(
                f"the exported graph needs more memory for {len(patches)} patches than is left: end other programs, or "
                "use a larger machine"
            ) from error
        why = " ".join(str(error).split())[:200]
        raise InspectGanError(f"the exported graph failed ({why}): export the run again") from error
    finally:
        stop.cancel()
    for values in found:
        shape, kind = getattr(values, "shape", ()), getattr(values, "dtype", None)
        if kind != np.float32 or shape not in (patches.shape[:1], patches.shape[:3]):
            raise InspectGanError(f"the exported graph gives {kind} {shape} of {len(patches)} patches: export it again")
    return dict(zip(names, found, strict=True))


def describe(inspector: BaseInspector, calibration: Calibration) -> str:
    """What stands beside the graph, JSON."""
    return json.dumps(
        {
            "format": FORMAT,
            "run": inspector.name,
            "detector": inspector.detector_name,
            "page": inspector.page,
            "info_bar": inspector.info_bar,
            "health": inspector.health,
            "preprocess": inspector.predictor.preprocess.model_dump(),
            "calibration": asdict(calibration),
        }
    )
