"""What the peer is asked to do. A script for the peer's own Python: it imports nothing of inspect-gan.

Usage: python peer.py CASE DATA ARGUMENTS, as in `cases`. Prints one line of JSON, last.
The peer is set up as its users should: patches at their own size (its default enlarges them to 256x256), no pictures
written, one channel tripled as it insists.
"""

# mypy: disable-error-code="import-not-found"

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

SIZE, BATCH, WIDTH, LATENT = 32, 64, 64, 100
WARM_UP = 4  # training steps that are not counted


def train_engine(data: Path, steps: int) -> dict[str, float]:
    """`Engine.fit` on a folder of PNG patches."""
    import lightning
    import torch
    from anomalib.data import Folder
    from anomalib.engine import Engine

    class Clock(lightning.Callback):
        def __init__(self) -> None:
            self.starts: list[float] = []

        def on_train_batch_start(self, *_: Any) -> None:
            self.starts.append(time.process_time())

    clock = Clock()
    torch.manual_seed(0)
    # The engine insists on validation images, which are not counted; workers would hide their time in other processes.
    folder = Folder(
        name="patches",
        root=data / "patches",
        normal_dir="good",
        abnormal_dir="defect",
        train_batch_size=BATCH,
        num_workers=0,
        val_split_mode="same_as_test",
    )
    with tempfile.TemporaryDirectory() as results:
        engine = Engine(
            max_epochs=1,
            limit_train_batches=steps + WARM_UP,
            limit_val_batches=1,
            accelerator="cpu",
            devices=1,
            callbacks=[clock],
            default_root_dir=results,
            enable_progress_bar=False,
        )
        engine.fit(model=model(), datamodule=folder)
    return {"ready_cpu_s": clock.starts[0], **_speed(clock.starts)}


def train_step(data: Path, steps: int, bf16: bool = False) -> dict[str, float]:
    """The peer's training step on patches in memory, without its engine."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    module = model()
    module.model.train()
    d_opt, g_opt = module.configure_optimizers()
    patches = normalise(_patches(data, stride=16)[: BATCH * 16])

    def step(number: int) -> None:
        first = number * BATCH % (len(patches) - BATCH)
        optimise(module, d_opt, g_opt, patches[first : first + BATCH], bf16)

    with FlopCounterMode(display=False) as counter:
        step(0)
    starts = []
    for number in range(steps + WARM_UP):
        starts.append(time.process_time())
        step(number)
    return {"mflop_per_patch": counter.get_total_flops() / BATCH / 1e6, **_speed(starts)}


def optimise(module: Any, d_opt: Any, g_opt: Any, patches: Any, bf16: bool = False) -> None:
    """A step of the peer's training. patches: normalised."""
    import torch

    network = module.model
    autocast = partial(torch.autocast, "cpu", torch.bfloat16) if bf16 else nullcontext
    with autocast():
        x, fake, latent, latent_rec = network(patches)
        real_out, _ = network.discriminator(x)
        fake_out, _ = network.discriminator(fake)
        g_loss = module.generator_loss(latent, latent_rec, x, fake, real_out, fake_out)
    g_opt.zero_grad()
    g_loss.backward(retain_graph=True)
    g_opt.step()
    with autocast():
        fake_out, _ = network.discriminator(fake.detach())
    d_loss = module.discriminator_loss(real_out.float(), fake_out.float())
    d_opt.zero_grad()
    d_loss.backward()
    d_opt.step()
    (g_loss.item(), d_loss.item())


def dense_map(data: Path, stride: int) -> dict[str, float]:
    """Its network on all patches of one image, batch 64, after a warm-up; it makes no map of them."""
    import torch

    network = model().model.eval()

    def scores(patches: Any) -> Any:
        return torch.cat([network(batch).pred_score for batch in normalise(patches).split(BATCH)])

    with torch.inference_mode():
        scores(_patches(data, SIZE)[: 2 * BATCH])
        cpu, wall = time.process_time(), time.perf_counter()
        scores(_patches(data, stride))
        return {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}


def help_page(data: Path) -> dict[str, float]:
    """`anomalib --help`."""
    from anomalib.cli.cli import main

    sys.argv = ["anomalib", "--help"]
    with open(os.devnull, "w") as nowhere:
        sys.stdout, shown = nowhere, sys.stdout
        try:
            main()
        except SystemExit:
            pass
        finally:
            sys.stdout = shown
    return {}


def scorer_ready(data: Path) -> dict[str, float]:
    """The network with fresh weights; a saved one takes longer."""
    model().model.eval()
    return {"ready_cpu_s": time.process_time()}


def describe(data: Path) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("anomalib", "torch", "lightning")} | {"python": sys.version.split()[0]}


def model() -> Any:
    import torch
    from anomalib.models import Ganomaly

    # The import of its packages may have changed what the environment asks for.
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return Ganomaly(
        batch_size=BATCH,
        n_features=WIDTH,
        latent_vec_size=LATENT,
        pre_processor=Ganomaly.configure_pre_processor(image_size=(SIZE, SIZE)),
        visualizer=False,
    )


def _patches(data: Path, stride: int) -> Any:
    """(n, 3, 32, 32) in [0, 1] on the same grid as ours: a last row and column end at the border."""
    import numpy as np
    import torch
    from PIL import Image

    pixels = torch.from_numpy(np.array(Image.open(data / "image.png").convert("RGB"))).permute(2, 0, 1) / 255
    rows, columns = (positions(extent, stride) for extent in pixels.shape[1:])
    windows = pixels.unfold(1, SIZE, 1).unfold(2, SIZE, 1)[:, rows][:, :, columns]
    return windows.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()


def positions(extent: int, stride: int) -> list[int]:
    last = extent - SIZE
    return [*range(0, last, stride), last]


def normalise(patches: Any) -> Any:
    """The peer's default standardisation."""
    import torch

    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (patches - mean[:, None, None]) / std[:, None, None]


def _speed(starts: list[float]) -> dict[str, float]:
    """starts: CPU time at the beginning of each step."""
    counted = starts[WARM_UP:]
    return {"patches_per_cpu_s": (len(counted) - 1) * BATCH / (counted[-1] - counted[0])}


CASES: dict[str, Callable[..., dict[str, Any]]] = {
    "train_engine": train_engine,
    "train_step": train_step,
    "train_step_bf16": partial(train_step, bf16=True),
    "map": dense_map,
    "help": help_page,
    "scorer_ready": scorer_ready,
    "describe": describe,
}


def main(case: str, data: str, arguments: str = "{}") -> None:
    warnings.simplefilter("ignore")
    print(json.dumps(CASES[case](Path(data), **json.loads(arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
