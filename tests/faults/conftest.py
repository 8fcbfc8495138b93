"""One server, one undisturbed training and one undisturbed inspection for all tests of faults."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .harness import Server, defect_map, draw, result_content, run_content, train


@dataclass(frozen=True)
class Undisturbed:
    """What the commands leave when nothing happens. *_operations: how often they touched the disk."""

    data: Path
    run: Path
    run_content: dict[str, Any]
    run_operations: int
    run_seconds: float
    result_content: dict[str, Any]
    result_operations: int
    result_seconds: float


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    data = draw(folder / "data")
    run, maps = folder / "runs" / "run", folder / "maps" / "out"
    trained = server(*train(data, run))
    assert trained["code"] == 0, trained["output"]
    content = run_content(run)
    inspected = server(*defect_map(data, run, maps))
    assert inspected["code"] == 2, inspected["output"]  # one of the images is broken
    return Undisturbed(
        data,
        run,
        content,
        trained["operations"],
        trained["seconds"],
        result_content(maps),
        inspected["operations"],
        inspected["seconds"],
    )
