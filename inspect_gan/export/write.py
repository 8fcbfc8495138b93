"""Write a trained and calibrated detector as one file: ONNX, or a program of `torch.export`."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from inspect_gan.detector import Detector
from inspect_gan.errors import InspectGanError
from inspect_gan.export.scorer import INPUT, METADATA, PROGRAM_SUFFIX, SUFFIX, describe, open_session, run_session
from inspect_gan.imaging import atomic_bytes, make_folder
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.inspector import Inspector

# Largest difference between the exported and the trained network's scores of normal patches, relative to the largest
# score. Rounding of float32 makes some 1e-7 of it, some 1e-4 in structural similarity, which divides small variances; a
# wrongly exported operation far more.
TOLERANCE = 1e-3

# What an exported file gives: patches (n, S, S, C) -> (n,) or (n, S, S).
Run = Callable[[np.ndarray], np.ndarray]


def export_scorer(
    inspector: Inspector,
    out: Path,
    *,
    score: str | None = None,
    stride: int | None = None,
    target_fpr: float | None = None,
) -> float:
    """Write preprocessing, score and threshold as one file; what is not given is the run's own.

    out: `*.onnx`, or `*.pt2` for a program that `torch.export.load` reads. It takes patches (n, S, S, C) float32 as
    `Preprocess.image` makes them, for any n, and gives the score, (n,) or per pixel (n, S, S); it computes in float32,
    the threshold is measured in float32 too. Returns the largest relative difference between its scores of the run's
    held-out patches and the detector's. Raises InspectGanError, and leaves no file, when that passes TOLERANCE, for
    another suffix, for a detector that optimises at inference, and without the packages that export needs.
    """
    write = WRITERS.get(out.suffix.lower())
    if write is None:
        raise InspectGanError(f"{out} must end in {' or '.join(WRITERS)}")
    detector, preprocess = inspector.predictor.detector, inspector.predictor.preprocess
    if detector.searches:
        raise InspectGanError(
            f"{inspector.name} is a {inspector.detector_name}: it searches the latent code of every patch by gradient "
            f"descent, which no exported graph can do. Inspect with the run directory, or train a detector that has an "
            f"encoder, such as fanogan"
        )
    calibration = inspector.calibration(score, stride, target_fpr, precision="32-true")
    scorer = PatchScorer(copy.deepcopy(detector), preprocess, calibration.score).cpu().eval()
    with _quiet(), torch.no_grad():
        content, run = write(scorer, describe(inspector, calibration))
    difference = _difference(scorer, run, inspector.held_out_patches())
    if not difference <= TOLERANCE:
        raise InspectGanError(
            f"the exported graph scores held-out patches differently from the detector: by {difference:.2g} of the "
            f"largest score, {TOLERANCE:g} is allowed. {out} was not written; use the run directory instead"
        )
    make_folder(out.parent)
    atomic_bytes(out, content)
    return difference


class PatchScorer(nn.Module):
    """(n, S, S, C) -> (n,), or (n, S, S) for a score with a value per pixel."""

    def __init__(self, detector: Detector, preprocess: Preprocess, score: str):
        super().__init__()
        self.detector = detector
        self.preprocess = preprocess
        self.score = score

    def forward(self, patches: Tensor) -> Tensor:
        scores = self.detector.scores(self.preprocess.tensor(patches), [self.score])
        if self.score in scores.maps:
            return scores.maps[self.score].squeeze(1)
        return scores.patch[self.score]

    def example(self) -> tuple[Tensor]:
        """Two patches, enough to follow what happens to any number."""
        return (torch.zeros(2, self.preprocess.size, self.preprocess.size, self.preprocess.channels),)


def _onnx(scorer: PatchScorer, about: str) -> tuple[bytes, Run]:
    """about: what stands beside the graph. Returns the content of the file, and what runs it."""
    try:
        import onnx  # noqa: F401  what the exporter needs
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InspectGanError(f"export needs the package {error.name}: pip install 'inspect-gan[export]'") from error
    program = torch.onnx.export(
        scorer,
        scorer.example(),
        input_names=[INPUT],
        output_names=[scorer.score],
        dynamic_shapes=_ANY_NUMBER,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, about
    content = model.SerializeToString()
    session = open_session(content)
    return content, lambda patches: run_session(session, patches, [scorer.score])[scorer.score]


def _pt2(scorer: PatchScorer, about: str) -> tuple[bytes, Run]:
    """As `_onnx`; what stands beside the program is its extra file `inspect_gan`."""
    program = torch.export.export(scorer, scorer.example(), dynamic_shapes=_ANY_NUMBER)
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: about})
    file.seek(0)
    loaded = torch.export.load(file).module()
    return file.getvalue(), lambda patches: loaded(torch.from_numpy(patches)).numpy()


_ANY_NUMBER = ({0: torch.export.Dim("n")},)
WRITERS = {SUFFIX: _onnx, PROGRAM_SUFFIX: _pt2}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters tell much that no reader can act on."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _difference(scorer: PatchScorer, run: Run, patches: np.ndarray) -> float:
    with torch.inference_mode():
        exported, wanted = run(patches), scorer(torch.from_numpy(patches)).numpy()
    return float(np.abs(exported - wanted).max() / np.abs(wanted).max())
