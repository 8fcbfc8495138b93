"""A run and images for the commands, which must leave them as they are."""

from pathlib import Path

import pytest

from inspect_gan.tools.cli import main

TINY = ["detector.width=4", "detector.nz=8", "training.batch_size=8"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    code = stop.value.code
    return (0 if code is None else int(code)), captured.out, captured.err


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "fibres"
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "prepare",
                "nanofibres",
                "--out",
                str(out),
                *["--normal", "3", "--defective", "2", "--height", "160", "--width", "224"],
            ]
        )
    assert stop.value.code in (0, None)
    return out


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "first"
    arguments = [
        "train",
        "--data",
        str(data),
        "--out",
        str(out),
        "--steps",
        "150",
        "data.holdout_fraction=0.4",
    ]
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "scoring.target_fpr=0.05", *TINY])
    assert stop.value.code in (0, None)
    return out
