"""What is measured of this package, each case in a process of its own.

Usage: python -m inspect_gan.benchmark.cases CASE DATA ARGUMENTS. DATA: the folder that `prepare` fills; ARGUMENTS: of
the case, a JSON object. Prints one line of JSON. CPU seconds are those of the process.
"""

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from inspect_gan.config import Config
    from inspect_gan.hardware import Precision
    from inspect_gan.imaging import Image
    from inspect_gan.inspector import Inspector
    from inspect_gan.scoring.maps import MapSettings
    from inspect_gan.training.loop import Trainer

# The published network, as the peer has it.
NETWORK = ("detector.width=64", "detector.nz=100", "patches.size=32", "training.device=cpu")
HEIGHT, WIDTH = 700, 1024
WARM_UP = 4  # training steps that are not counted
# Runs to map with: the number of channels, the score, changed settings. "packaged": as users get it unless they ask.
RUNS = {
    "grey": (1, "enc_mse", ()),
    "rgb": (3, "enc_mse", ()),
    "valid": (1, "code", ("detector.networks=k4_valid",)),
    "packaged": (1, "res_ssim", ("detector.width=32", "detector.nz=256")),
}
EXPORTED = ("grey", "packaged")


def settings(*changes: str) -> "Config":
    from inspect_gan.config import load_config

    return load_config("ganomaly", [*NETWORK, *changes])


def prepare(data: Path) -> dict[str, Any]:
    """Draw images, cut the peer's patch files, train and export short runs, calibrated for stride 16."""
    from inspect_gan.datasets.nanofibres import write_dataset
    from inspect_gan.datasets.patch_files import write_patches
    from inspect_gan.export.write import export_scorer
    from inspect_gan.inspector import Inspector

    drawn = data / "nanofibres"
    write_dataset(drawn, normal=5, good=0, defective=1, height=HEIGHT, width=WIDTH)
    shutil.copy(drawn / "test/defect/000.png", data / "image.png")
    some = data / "some"
    some.mkdir()
    for path in _normal(data)[:2]:
        shutil.copy(path, some)
    write_patches(some, data / "patches" / "good", size=32, stride=16)
    write_patches(drawn / "test/defect", data / "patches" / "defect", size=32, stride=32)
    for name, (channels, score, changes) in RUNS.items():
        config = settings(
            *("training.steps=10", f"patches.channels={channels}", f"scoring.score={score}", "scoring.stride=16"),
            *changes,
        )
        inspector = Inspector.fit([*_normal(data)], config, out=data / name)
        if name in EXPORTED:
            export_scorer(inspector, data / f"{name}.onnx")
    return {}


def describe(data: Path) -> dict[str, Any]:
    """Versions, and whether the processor computes in bfloat16."""
    from importlib.metadata import version

    from inspect_gan import __version__
    from inspect_gan.hardware import cpu_has_bf16

    versions = {name: version(name) for name in ("torch", "numpy")}
    python = ".".join(map(str, sys.version_info[:3]))
    return {"bf16": cpu_has_bf16(), "versions": {"inspect_gan": __version__, **versions, "python": python}}


def train(data: Path, channels: int, precision: "Precision", steps: int) -> dict[str, Any]:
    """The training loop, with logging and weight averages, on crops from memory.

    A batch is drawn once per iteration: the moments at which batches are asked for are where iterations begin.
    """
    starts: list[float] = []
    loading: list[float] = []

    def timed(draw: "Callable[[int], torch.Tensor]", number: int) -> "torch.Tensor":
        starts.append(time.process_time())
        x = draw(number)
        loading.append(time.process_time() - starts[-1])
        return x

    with tempfile.TemporaryDirectory() as run:
        _trainer(data, channels, precision, WARM_UP + steps + 1, Path(run), timed).fit()
    return {
        "ready_cpu_s": starts[0],
        **rates(starts[WARM_UP:], settings().training.batch_size),
        "loading_percent": 100 * sum(loading[WARM_UP:-1]) / (starts[-1] - starts[WARM_UP]),
    }


def rates(starts: list[float], batch_size: int) -> dict[str, float]:
    """starts: CPU seconds at the beginning of each step, the last of them not counted itself."""
    steps, middle = len(starts) - 1, len(starts) // 2
    seconds = starts[-1] - starts[0]
    first, second = (starts[middle] - starts[0]) / middle, (starts[-1] - starts[middle]) / (steps - middle)
    return {"patches_per_cpu_s": steps * batch_size / seconds, "growth": second / first}


def arithmetic(data: Path) -> dict[str, Any]:
    """Multiplications and additions for each patch of a training step (three channels) and of a map (one channel), and
    the most a core does of them in a second."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    batch_size = settings().training.batch_size
    with tempfile.TemporaryDirectory() as run:
        trainer = _trainer(data, 3, "32-true", 1, Path(run), lambda draw, number: draw(number))
        with FlopCounterMode(display=False) as step:
            trainer.fit()
    detector = settings().build(1).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as scoring:
        detector.scores(torch.zeros(batch_size, 1, 32, 32), [RUNS["grey"][1]])
    return {
        "mflop_per_patch": step.get_total_flops() / batch_size / 1e6,
        "mflop_per_score": scoring.get_total_flops() / batch_size / 1e6,
        "gflops_fp32": _peak(torch.float32),
        "gflops_bf16": _peak(torch.bfloat16) if describe(data)["bf16"] else None,
    }


def map_image(data: Path, stride: int, precision: "Precision", run: str = "grey") -> dict[str, Any]:
    """Map of an image by a detector that has mapped before."""
    inspector, image = _open(data, run)
    _time_map(inspector, _strip(image, 128), stride, precision)
    return _time_map(inspector, image, stride, precision)


def one_by_one(data: Path, stride: int, precision: "Precision", run: str) -> dict[str, Any]:
    """The scores of all patches of a map, none of which shares work with its neighbours."""
    inspector, image = _open(data, run)
    settings = _map_settings(inspector, stride, precision)
    names = [inspector.config.scoring.score]
    inspector.predictor.patch_scores(_strip(image, 128), names, settings)
    return _timed(lambda: inspector.predictor.patch_scores(image, names, settings))


def map_strip(data: Path) -> dict[str, Any]:
    """Map at stride 1 of a score with a value per pixel, which holds more in memory than a value per patch."""
    inspector, image = _open(data)
    return _time_map(inspector, _strip(image, 64), 1, "auto", "res_ssim")


def growth(data: Path, largest: int) -> dict[str, Any]:
    """Maps of the image tiled 1×1, 2×2, ... largest × largest times: seconds per megapixel, memory at four times the
    area, both against 1×1."""
    import numpy as np

    from inspect_gan.imaging import Image

    inspector, image = _open(data)
    _time_map(inspector, _strip(image, 128), 16, "auto")
    per_megapixel, peaks = [], []
    for side in (2**n for n in range(largest.bit_length())):
        tiled = Image(np.tile(image.pixels, (side, side, 1)), image.bit_depth)
        seconds = _time_map(inspector, tiled, 16, "auto")["cpu_s"]
        per_megapixel.append(seconds / (tiled.height * tiled.width / 1e6))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return {"growth": per_megapixel[-1] / per_megapixel[0], "rss_growth": peaks[1] / peaks[0]}


def scorer_ready(data: Path) -> dict[str, Any]:
    from inspect_gan.inspector import Inspector

    Inspector.load(data / "grey")
    return {"ready_cpu_s": time.process_time()}


def exported_ready(data: Path) -> dict[str, Any]:
    from inspect_gan.inspection import open_inspector

    open_inspector(data / "grey.onnx")
    return {"ready_cpu_s": time.process_time()}


def import_torch(data: Path) -> dict[str, Any]:
    import torch

    return {"threads": torch.get_num_threads()}


def _normal(data: Path) -> list[Path]:
    return sorted((data / "nanofibres/train/good").glob("*.png"))


def _trainer(
    data: Path,
    channels: int,
    precision: "Precision",
    steps: int,
    run: Path,
    drawing: "Callable[[Callable[[int], torch.Tensor], int], torch.Tensor]",
) -> "Trainer":
    """As `training.fit` sets it up. drawing: called with the function that draws a batch, and the batch's number."""
    import torch
    from rich.console import Console

    from inspect_gan.imaging import read
    from inspect_gan.imaging.preprocess import Preprocess
    from inspect_gan.training.fit import batches
    from inspect_gan.training.loop import Trainer
    from inspect_gan.training.monitor import Monitor

    config = settings(f"patches.channels={channels}", f"training.precision={precision}", f"training.steps={steps}")
    images = [read(path) for path in _normal(data)]
    preprocess = Preprocess.fit(images, **config.patches.model_dump())
    torch.manual_seed(config.seed)
    return Trainer(
        config.build(channels),
        partial(drawing, batches([partial(preprocess.image, image) for image in images], preprocess, config)),
        config.training,
        config.seed,
        run / "state.pt",
        Monitor(run, Console(quiet=True)),
        "",
    )


def _open(data: Path, run: str = "grey") -> "tuple[Inspector, Image]":
    from inspect_gan.inspector import Inspector

    inspector = Inspector.load(data / run, device="cpu")
    return inspector, inspector.read(data / "image.png")


def _strip(image: "Image", rows: int) -> "Image":
    from inspect_gan.imaging import Image

    return Image(image.pixels[:rows], image.bit_depth)


def _time_map(
    inspector: "Inspector", image: "Image", stride: int, precision: "Precision", score: str | None = None
) -> dict[str, float]:
    """score: None for the run's own."""
    settings, names = _map_settings(inspector, stride, precision), [score or inspector.config.scoring.score]
    return _timed(lambda: inspector.predictor.score_maps(image, names, settings))


def _map_settings(inspector: "Inspector", stride: int, precision: "Precision") -> "MapSettings":
    from dataclasses import replace

    from inspect_gan.hardware import resolve_precision

    return replace(inspector.map_settings(stride), precision=resolve_precision(precision, "cpu"))


def _timed(work: Callable[[], Any]) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def _peak(dtype: "torch.dtype") -> float:
    """GFLOP per CPU second of a convolution that suits the processor: 3×3, 256 channels to 256, channels last."""
    import torch

    x = torch.randn(64, 256, 16, 16).to(dtype).contiguous(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(256, 256, 3, padding=1, dtype=dtype).to(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(8):
            started = time.process_time()
            layer(x)
            times.append(time.process_time() - started)
    return 2 * 64 * 16 * 16 * 256 * 256 * 9 / min(times) / 1e9


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "prepare": prepare,
    "describe": describe,
    "train": train,
    "arithmetic": arithmetic,
    "map": map_image,
    "one_by_one": one_by_one,
    "map_strip": map_strip,
    "growth": growth,
    "scorer_ready": scorer_ready,
    "exported_ready": exported_ready,
    "import_torch": import_torch,
}


def main(case: str, data: str, arguments: str = "{}") -> None:
    print(json.dumps(CASES[case](Path(data), **json.loads(arguments))), flush=True)
    os._exit(0)  # as commands end, see `tools.cli.process`: what PyTorch's end takes is not the case's


if __name__ == "__main__":
    main(*sys.argv[1:])
