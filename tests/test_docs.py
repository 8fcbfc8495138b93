"""What README and docs say can be done: links lead somewhere, commands parse, settings exist, examples run."""

import ast
import importlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml

from inspect_gan.ablation.grid import load_grid
from inspect_gan.config import DEFAULT_RECIPE, apply_overrides, load_config, make_config
from inspect_gan.detector import detectors
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import write_png
from inspect_gan.tools.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PARTS = ("patches", "data", "training", "tricks", "scoring", "detector", "objective")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
OVERRIDE = re.compile(rf"(?:{'|'.join(PARTS)})\.\w+=\S+|objective=\w+")


@dataclass(frozen=True)
class Found:
    """A piece of a page. where: for messages."""

    where: str
    text: str


def blocks(language: str) -> list[Found]:
    return [
        Found(f"{page.relative_to(ROOT)}:{number}", block[2])
        for page in PAGES
        for number, block in enumerate(FENCE.finditer(page.read_text(encoding="utf-8")))
        if block[1] == language
    ]


def spans() -> list[Found]:
    """Code within the text of the pages."""
    return [
        Found(str(page.relative_to(ROOT)), code[1])
        for page in PAGES
        for code in CODE.finditer(FENCE.sub("", page.read_text(encoding="utf-8")))
    ]


@cache
def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    for link in LINK.findall(text):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{page.name}: {link} leads to no file"
        assert target.is_relative_to(ROOT), f"{page.name}: {link} leads outside"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link} leads to no heading"


def commands(text: str) -> Iterator[str]:
    """Lines that call the command, without what stands before it."""
    for line in text.splitlines():
        if call := re.match(r"(?:\w+=\S+ )*inspect-gan (.+)", line.strip()):
            yield call[1]


WRITTEN = [
    *((one.where, line, True) for one in blocks("") for line in commands(one.text)),
    *((one.where, line, False) for one in spans() for line in commands(one.text)),
]


@cache
def known_scores() -> set[str]:
    small = {"width": 4, "nz": 8}
    tables = (make_config({"detector": {"name": name, **small}}).build(1).score_table() for name in detectors.names())
    return {score for table in tables for score in table}


def parsed(line: str, whole: bool) -> tuple[str, dict[str, Any]]:
    """The command and its values. whole: nothing may be missing."""
    command: Any = typer.main.get_command(app)
    arguments = shlex.split(line, comments=True)
    names: list[str] = []
    while hasattr(command, "resolve_command"):
        if not arguments or arguments == ["--help"]:
            assert not whole
            return " ".join(names), {}
        context = command.context_class(command, info_name="inspect-gan")
        name, command, arguments = command.resolve_command(context, arguments)
        names.append(name)
    try:
        context = command.make_context(names[-1], arguments)
    except Exception as error:
        # Of what a sentence mentions, arguments may be missing; all else is wrong.
        if whole or type(error).__name__ != "MissingParameter":
            raise
        return " ".join(names), {}
    return " ".join(names), context.params


@pytest.mark.parametrize(("where", "line", "whole"), WRITTEN, ids=[f"{where} {line}" for where, line, _ in WRITTEN])
def test_commands_parse_and_name_what_exists(where: str, line: str, whole: bool) -> None:
    command, values = parsed(line, whole)
    if command == "train" and values:
        source = values["config"] or DEFAULT_RECIPE
        if not source.isupper():  # FILE stands for any
            load_config(source, values["overrides"] or ())
    if command == "ablate" and values and not values["grid"].endswith(".yaml"):
        load_grid(values["grid"], values["overrides"] or ())
    if not (scores := values.get("score")):
        return
    assert {scores} <= known_scores() if isinstance(scores, str) else set(scores) <= known_scores()


def test_there_are_commands_to_look_at() -> None:
    named = {parsed(line, whole)[0] for _, line, whole in WRITTEN}
    assert {"train", "defect_map", "evaluate", "export", "ablate", "prepare nanotwice", "toys", "list"} <= named


def fits_some_run(override: str) -> bool:
    for name in detectors.names():
        for objective in ({}, *({"objective": one} for one in detectors.get(name).objectives)):
            values: dict[str, Any] = {"detector": {"name": name}, **objective}
            try:
                apply_overrides(values, {}, [override])
                make_config(values)
            except InspectGanError:
                continue
            return True
    return False


def test_settings_in_sentences_exist() -> None:
    written = {one.text: one.where for one in spans() if OVERRIDE.fullmatch(one.text)}
    assert len(written) > 15
    for override, where in written.items():
        if not override.partition("=")[2].isupper():  # NAME stands for any
            assert fits_some_run(override), f"{where}: no run takes {override}"


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.where)
def test_configurations_and_grids_are_valid(block: Found, tmp_path: Path) -> None:
    values = yaml.safe_load(block.text)
    if "axes" in values:
        (tmp_path / "grid.yaml").write_text(block.text, encoding="utf-8")
        load_grid(tmp_path / "grid.yaml")
    elif values["detector"]["name"] != "cogan":  # the example of contributing.md, tried below
        make_config(values)


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: block.where)
def test_json_is_json(block: Found) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.where)
def test_python_compiles_and_imports_what_exists(block: Found) -> None:
    if "api.md" in block.where:
        return  # signatures, made from the code
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert importlib.util.find_spec(alias.name), f"{block.where}: no module {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_tables_are_made_from_the_results_beside_them() -> None:
    place = ROOT / "docs" / "results" / "page.py"
    spec = importlib.util.spec_from_file_location("results_page", place)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    text = made.PAGE.read_text(encoding="utf-8")
    assert made.page(text) == text, "run python docs/results/page.py"
    assert text.count("**`") > 10


def example(page: str, start: str) -> str:
    """The python block of a page that begins so."""
    (found,) = (one.text for one in blocks("python") if page in one.where and one.text.startswith(start))
    return found


def test_tutorial_lists_the_largest_defects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "maps").mkdir()
    rows = [f"{name}.tif,{area},{x},7" for name, area, x in (("a", 2.5, 1), ("b", 10.0, 2), ("c", 0.5, 3), ("d", 4, 4))]
    text = "\n".join(["image,area_um2,peak_x,peak_y", *rows])
    (tmp_path / "maps" / "regions.csv").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(example("tutorial", "import csv"), "tutorial.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == ["b.tif", "d.tif", "a.tif"]
    assert printed[0] == "b.tif: 10.00 µm² at x 2, y 7"


def test_contributed_detector_and_objective_work_as_the_page_says(tmp_path: Path) -> None:
    """In a copy of the source tree: two new files, one YAML, the objective's name in the detector, nothing else."""
    for folder in ("inspect_gan", "models", "datasets", "tools", "configs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.py", tmp_path)
    detector = example("contributing", '"""A small GAN')
    assert '"hinge")' in detector
    taking_it = detector.replace('"hinge")', '"hinge", "quartic")')
    (tmp_path / "models" / "cogan.py").write_text(taking_it, encoding="utf-8")
    (tmp_path / "inspect_gan" / "objectives" / "quartic.py").write_text(
        example("contributing", "from torch import Tensor"), encoding="utf-8"
    )
    (written,) = (one.text for one in blocks("yaml") if "cogan" in one.text)
    (tmp_path / "configs" / "cogan.yaml").write_text(written, encoding="utf-8")
    (tmp_path / "good").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        write_png(tmp_path / "good" / f"{number}.png", rng.integers(0, 256, (96, 160), dtype=np.uint8))

    small = ["detector.width=4", "detector.nz=8", "training.batch_size=4", "scoring.target_fpr=0.2"]
    train = ["train", "--data", "good", "--config", "cogan", "--out", "run", "--steps", "4", "objective=quartic"]
    call = "import inspect_gan.models.cogan as m, inspect_gan.tools.cli as c; print(m.__file__); "
    call += f"c.main({train + small})"
    done = subprocess.run(
        [sys.executable, "-c", call],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(tmp_path / "models") in done.stdout
    assert "threshold of res_ssim" in done.stdout
    record = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert (record["detector"]["name"], record["objective"]["name"]) == ("cogan", "quartic")
    assert record["detector"]["w_rec"] == 10.0
