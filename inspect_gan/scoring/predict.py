"""Scores of patches by a detector's networks: the one inference path in torch.

Calibration, inspection and evaluation all go through here.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from inspect_gan.detector import Detector, Score
from inspect_gan.errors import InspectGanError, first_line
from inspect_gan.hardware import deterministic, full_float32, is_out_of_memory, resolve_device
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import iterate_patches
from inspect_gan.scoring import dense
from inspect_gan.scoring.dense import DenseNetwork
from inspect_gan.scoring.folding import folded
from inspect_gan.scoring.maps import MapMaker, MapSettings

MIN_BUDGET = 2**16  # numbers held at a time, see `scoring.dense`

log = logging.getLogger(__name__)


class Predictor(MapMaker):
    """Scores patches of images with a folded copy of a detector, see `scoring.folding`."""

    def __init__(
        self,
        detector: Detector,
        preprocess: Preprocess,
        *,
        device: str = "auto",
        batch_size: int = 192,
        deterministic: bool = False,
    ):
        super().__init__(preprocess, batch_size)
        self.device = torch.device(resolve_device(device))
        self._budget = dense.BUDGET
        self._deterministic = deterministic
        self.detector = folded(detector).to(self.device).to(memory_format=torch.channels_last)

    def _shared_scores(
        self, name: str, pixels: np.ndarray, grid: Grid, settings: MapSettings
    ) -> Iterator[tuple[int, np.ndarray]] | None:
        network = self._shared_network(name)
        return None if network is None else self._strips(name, network, pixels, grid, settings)

    def _shared_network(self, name: str) -> DenseNetwork | None:
        """The network of a score whose work overlapping patches can share, if it has one."""
        self.detector.check_score(name)
        score = self.detector.score_table()[name]
        # What is standardised patch by patch differs between overlapping patches.
        if not isinstance(score, Score) or score.shared is None or self.preprocess.scaling == "per_patch_std":
            return None
        network, size = score.shared.network(self.detector), self.preprocess.size
        return DenseNetwork(network, size) if network is not None and DenseNetwork.supports(network, size) else None

    # Without `inference_mode`, which `strips` has: as a decorator of a generator it would end autocast at each yield.
    def _strips(
        self, name: str, network: DenseNetwork, pixels: np.ndarray, grid: Grid, settings: MapSettings
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first patch, scores (n,)) strip by strip."""
        score = self.detector.score_table()[name]
        assert isinstance(score, Score) and score.shared is not None
        x = self.preprocess.tensor(pixels[None])[0].to(self.device)
        done = 0
        while done < len(grid):
            with self._halving("_budget", MIN_BUDGET), self._arithmetic(settings):
                for start, outputs in network.strips(x, grid, self._budget):
                    # Part by part: what reducing makes on its way would take more memory than the outputs themselves.
                    parts = [score.shared.reduce(self.detector, p).float() for p in outputs.split(self._batch_size)]
                    del outputs  # not held while those of the next strip are made
                    scores = torch.cat(parts).cpu().numpy()
                    if start + len(scores) > done:  # not there already when memory ran out
                        yield done, scores[done - start :]
                        done = start + len(scores)

    @contextmanager
    def _arithmetic(self, settings: MapSettings) -> Iterator[None]:
        dtype = torch.float16 if settings.precision == "16-mixed" else torch.bfloat16
        enabled = settings.precision != "32-true"
        with (
            torch.autocast(self.device.type, dtype, enabled=enabled),
            full_float32(settings.precision),
            deterministic(self._deterministic),
        ):
            yield

    def _scores(
        self, pixels: np.ndarray, grid: Grid, names: Sequence[str], settings: MapSettings
    ) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """(number of the first patch, {name: (n,)}, {name: (n, S, S)}) batch by batch."""
        for start, patches in iterate_patches(pixels, grid, self._batch_size):
            done = 0
            while done < len(patches):
                with self._halving("_batch_size", 1):
                    patch, maps = self._batch(patches[done : done + self._batch_size], names, settings)
                    yield start + done, patch, maps
                    done += len(patch[names[0]])

    @torch.inference_mode()
    def _batch(
        self, patches: np.ndarray, names: Sequence[str], settings: MapSettings
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """{name: (n,)}, {name: (n, S, S)} of patches (n, S, S, C)."""
        x = self.preprocess.tensor(patches).to(self.device)
        with self._arithmetic(settings):
            scores = self.detector.scores(x, names)
        return (
            {name: value.cpu().numpy() for name, value in scores.patch.items()},
            {name: value.squeeze(1).cpu().numpy() for name, value in scores.maps.items()},
        )

    @contextmanager
    def _halving(self, limit: str, least: int) -> Iterator[None]:
        """Where memory runs out inside, halve what `limit` names, for all that follows, and go on.

        Raises InspectGanError when it is `least` already.
        """
        try:
            yield
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            why = first_line(error)[:200]
            if getattr(self, limit) <= least:
                raise InspectGanError(f"not enough memory on {self.device} for this image ({why})") from error
        # After the handler, which holds what had been computed.
        setattr(self, limit, max(getattr(self, limit) // 2, least))
        what = "patches per batch" if limit == "_batch_size" else "numbers at a time"
        log.warning("not enough memory on %s (%s): going on with %d %s", self.device, why, getattr(self, limit), what)
