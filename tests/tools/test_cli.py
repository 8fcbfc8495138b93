"""A command as a process: it ends at once, with all it had to say and do."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["-m", "inspect_gan.tools.cli", "list", "objectives"], 0, "wgan_gp"),
        ([str(ROOT / "tools" / "defect_map.py"), "no_run", "no.png", "--out", "maps"], 2, "error: no_run is not a run"),
        (["-m", "inspect_gan.tools.cli", "train"], 2, "Missing option"),
    ],
    ids=["fine", "bad input", "bad usage"],
)
def test_exit_code_and_last_words_through_a_pipe(command: list[str], code: int, said: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_what_a_command_leaves_for_the_end_is_done(tmp_path: Path) -> None:
    code = (
        "import atexit\n"
        "from inspect_gan.tools import cli\n"
        "@cli.app.command('later')\n"
        "def later():\n"
        "    atexit.register(print, 'and done')\n"
        "    print('begun', end=' ')\n"
        "    raise SystemExit(3)\n"
        "cli.process(['later'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "begun and done\n")


def test_a_crash_is_reported_as_by_any_python_program() -> None:
    code = (
        "from inspect_gan.tools import cli\n"
        "@cli.app.command('broken')\n"
        "def broken():\n"
        "    raise RuntimeError('a mistake')\n"
        "cli.process(['broken'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: a mistake\n")
