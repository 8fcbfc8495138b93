"""The process of one cell: `python -m inspect_gan.ablation.cell FOLDER` trains, evaluates, writes the outcome.

It ends with its parent: standard input is a pipe that the parent holds open, and its end means the parent is gone.
"""

import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspect_gan.ablation.folder import (
    EVALUATION,
    LOCK,
    RUN,
    UNFINISHED,
    CellFolder,
    Metrics,
    Outcome,
    write_baselines,
)
from inspect_gan.errors import CannotResume, InspectGanError, UnhealthyTraining
from inspect_gan.locks import locked

STOPPED = 130  # exit code of a cell that was asked to stop and can go on later


def main(path: Path, work: Callable[[CellFolder], Outcome] | None = None) -> int:
    """Run the cell in a folder unless it has an outcome, one process at a time. Returns the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    folder = CellFolder(path)
    with locked(path / LOCK):
        if folder.outcome() is None:
            try:
                outcome = (work or train_and_evaluate)(folder)
            except KeyboardInterrupt:
                return STOPPED
            except UnhealthyTraining as error:
                outcome = Outcome("collapsed", str(error))
            except InspectGanError as error:
                outcome = Outcome("failed", str(error))
            except Exception as error:
                traceback.print_exc()
                outcome = Outcome("failed", " ".join(traceback.format_exception_only(error)[-1].split()))
            folder.write_outcome(outcome)
    return 0


def train_and_evaluate(folder: CellFolder) -> Outcome:
    """Train, or go on from the last checkpoint, and measure the scores of the grid and of those before it.

    Raises InspectGanError as training and evaluation do, KeyboardInterrupt when asked to stop.
    """
    from inspect_gan.hardware import keep_threads_apart

    keep_threads_apart()  # before torch is imported by what follows

    import cv2

    from inspect_gan.ablation.plan import baselines_to_measure, planned_data, planned_scores
    from inspect_gan.config import make_config
    from inspect_gan.console import PlainConsole
    from inspect_gan.inspector import Inspector
    from inspect_gan.run import STATE
    from inspect_gan.training.fit import Source, fit_run, source_of
    from inspect_gan.training.loop import Interrupted

    cv2.setNumThreads(int(os.environ.get("OMP_NUM_THREADS", "0")))  # which OpenCV does not read
    identity = folder.identity()
    config = make_config(identity["config"])
    sweep, key = folder.path.parent.parent, folder.path.name
    data = planned_data(sweep, identity["data"])
    run, evaluation, unfinished = (folder.path / name for name in (RUN, EVALUATION, UNFINISHED))
    # Named without their folder, so that a run goes on after its images were moved.
    sources = [Source(path.name, source_of(path, config.data).load) for path in data.train]
    console = PlainConsole()

    def train(resume: bool) -> None:
        if not resume:
            shutil.rmtree(run, ignore_errors=True)
        fit_run(sources, config, run, resume=resume, console=console)

    try:
        try:
            train((run / STATE).is_file())
        except CannotResume as error:
            console.print(f"starts again: {error}")
            train(False)
    except Interrupted:
        raise KeyboardInterrupt from None
    inspector = Inspector.load(run)
    shutil.rmtree(unfinished, ignore_errors=True)
    own = inspector.predictor.detector.score_name(config.scoring.score)
    earlier = folder.result()
    # What other grids asked for is measured again beside it, so that result and evaluation hold everything there is.
    known: Metrics = {} if earlier is None else earlier.outcome.scores
    # The first stands for the run: its own, which is calibrated already, else one that did so before.
    names = sorted({*planned_scores(sweep, key), *known}, key=lambda name: (name != own, name not in known, name))
    beside = baselines_to_measure(sweep, key)
    inspector.evaluate(
        data.test,
        unfinished,
        scores=names,
        baselines=beside is not None,
        figures=False,
        progress=console.print,
    )
    # Maps of every image in every cell would fill the disk; `evaluate` makes them again.
    shutil.rmtree(unfinished / "maps", ignore_errors=True)
    shutil.rmtree(evaluation, ignore_errors=True)
    unfinished.rename(evaluation)
    metrics = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    rows = metrics["results"]
    if beside is not None:
        write_baselines(sweep, beside, {row["score"]: _numbers(row) for row in rows if row["baseline"]})
    scores = {row["score"]: _numbers(row) for row in rows if not row["baseline"]}
    scores[metrics["score"]] |= _found(metrics)
    return Outcome("done", scores=scores)


def _found(metrics: dict[str, Any]) -> dict[str, float | None]:
    """Of metrics.json the shares of the defects that are covered by half or more: at 5 % pixel false alarms, all and by
    the area in px from which a class goes on; at the calibrated threshold, with its false alarms, in all images and in
    those without defects."""
    from inspect_gan.evaluation.coverage import SIZE_EDGES

    coverage = metrics["coverage"]
    calibrated = coverage["at_calibrated_threshold"]
    return {
        "coverage": coverage["share_above_half"],
        **{
            f"coverage_from_{edge}": size["share_above_half"]
            for edge, size in zip((0, *SIZE_EDGES), coverage["by_size"], strict=True)
        },
        "calibrated_coverage": calibrated["share_above_half"],
        "calibrated_fpr": calibrated["pixel_false_alarm_rate"],
        "calibrated_fpr_good": metrics["operating_point"]["fpr_of_good_images"],
    }


def _numbers(row: dict[str, Any]) -> dict[str, float | None]:
    """The metrics of a row of metrics.json; None where one is undefined."""
    return {
        key: value
        for key, value in row.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
