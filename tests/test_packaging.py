"""The folders models, datasets, tools and configs are found however the project is used, and shadow nothing."""

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
PROBE = (
    "import inspect_gan.models.ganomaly, inspect_gan.datasets, inspect_gan.tools.cli, inspect_gan.config as c;"
    "print(c.load_config('fanogan').detector['name'], inspect_gan.models.__file__)"
)


def probe(folder: Path, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[str(path), *sys.path]!r}; {PROBE}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source") / "tree"
    # Built from a copy: setuptools leaves its build folder in the tree it builds from.
    tracked = (
        "inspect_gan",
        "models",
        "datasets",
        "tools",
        "configs",
        "setup.py",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    )
    import shutil

    source.mkdir()
    for name in tracked:
        kind = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        kind(ROOT / name, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        built,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(built.glob("*.whl"))


def test_wheel_holds_every_module_and_no_top_level_strangers(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"inspect_gan"}
    folders = {"inspect_gan": "inspect_gan"} | {
        name: f"inspect_gan/{name}" for name in ("models", "datasets", "tools", "configs")
    }
    for folder, target in folders.items():
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".yaml", ".html") and "__pycache__" not in file.parts:
                assert f"{target}/{file.relative_to(ROOT / folder).as_posix()}" in names


def test_wheel_names_its_licence_and_brings_its_text(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
        (licence,) = (archive.read(name) for name in archive.namelist() if name.endswith("/LICENSE"))
    assert "License-Expression: MIT\n" in metadata
    assert "License-File: LICENSE\n" in metadata
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_the_oldest_versions_that_are_tried_are_the_lower_bounds(wheel: Path) -> None:
    lines = (ROOT / "tests" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    bounds = {
        one.name: specifier.version
        for one in map(Requirement, metadata.get_all("Requires-Dist"))
        for specifier in one.specifier
        if specifier.operator == ">="
    }
    assert {"torch", "pillow", "ray"} <= bounds.keys()
    other = {one: bound for one, bound in bounds.items() if tried[one] not in SpecifierSet(f"=={bound}.*")}
    assert not other


def test_wheel_works_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert probe(tmp_path, tmp_path / "site").startswith(f"fanogan {tmp_path / 'site'}")


def test_source_tree_works_uninstalled(tmp_path: Path) -> None:
    assert probe(tmp_path, ROOT).startswith("fanogan ")


def test_help_loads_no_heavy_package() -> None:
    code = (
        "import sys\n"
        "from inspect_gan.tools.cli import main\n"
        "try:\n    main(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'matplotlib', 'cv2', 'skimage'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
