"""Configurations of strangers are data: nothing in them runs, multiplies, writes, or reaches a terminal."""

import os
from pathlib import Path

import pytest
from hypothesis import given

from inspect_gan.ablation.grid import load_grid
from inspect_gan.config import load_config, packaged_configs
from inspect_gan.documents import MAX_DEPTH, parse_json, parse_yaml, read_text
from inspect_gan.errors import InspectGanError, printable
from tests.hostile.conftest import damaged, refused, tries

CONFIGS = Path(__file__).parents[2] / "configs"
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)

PREPARED = {
    "a tag that runs code": 'seed: !!python/object/apply:os.system ["touch PWNED"]\n',
    "a tag that names code": "seed: !!python/name:os.system\n",
    "an unknown tag": "seed: !mine 1\n",
    "aliases that multiply": LAUGHS,
    "aliases that multiply in a value": f"{LAUGHS}seed: *a9\n",
    "aliases that multiply in what is not a setting": "record:\n  " + LAUGHS.replace("\n", "\n  "),
    "merges that multiply": "a0: &a0 {b: x}\n"
    + "".join(f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
    "an alias to itself": "detector: &a {name: *a}\n",
    "depth": "seed: " + "[" * 100_000,
    "depth that ends": "seed: " + "[" * 3000 + "]" * 3000,
    "a number of 5,000 digits": "seed: " + "9" * 5000,
    "a number of 100,000 hexadecimal digits": "seed: 0x" + "f" * 100_000,
    "a number in base 60": "seed: " + ":".join(["59"] * 3000),
    "a detector of 10^11 numbers": "detector: {nz: 100000000000}\n",
    "a detector of 10^6 channels": "detector: {width: 1000000}\n",
    "a batch of 10^11 patches": "training: {batch_size: 100000000000}\n",
    "a seed no generator takes": "seed: 99999999999999999999\n",
    "a key that clears the screen": '"\\e[2J\\e[31mkey": 1\n',
    "a key of two lines": '"a\\nseed: 1": 1\n',
    "a null byte": "seed: 1\0",
}


@tries(100)
@given(damaged([(CONFIGS / f"{name}.yaml").read_bytes() for name in packaged_configs()]))
def test_damaged_configurations_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(data)
    refused(lambda: load_config(path))
    refused(lambda: load_grid(path))


@pytest.mark.parametrize("name", PREPARED)
def test_prepared_configurations_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(PREPARED[name])
    for said in (refused(lambda: load_config(path), path), refused(lambda: load_grid(path))):
        assert said is not None
        assert len(said) < 1000
        assert "\x1b" not in said
    assert os.listdir(tmp_path) == ["run.yaml"]


@pytest.mark.parametrize(
    "value", ["[" * 10_000, "9" * 5000, "!!python/object/apply:os.system [x]", "\x1b[31m[", "\udcff"]
)
def test_prepared_overrides_are_refused(value: str) -> None:
    assert refused(lambda: load_config(None, [f"seed={value}"])) is not None


def test_pipes_devices_and_impossible_names_are_no_configurations(tmp_path: Path) -> None:
    """Reading a pipe that nobody writes to, or a device, would never end."""
    os.mkfifo(tmp_path / "pipe.yaml")
    for source in (tmp_path / "pipe.yaml", "/dev/zero", "x" * 300, "nul\0.yaml", tmp_path):
        assert refused(lambda source=source: load_config(source)) is not None  # type: ignore[misc]


def test_a_file_too_long_to_be_a_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(ValueError, match="longer than"):
        read_text(path)


def test_no_setting_is_a_path_that_something_is_written_to(tmp_path: Path) -> None:
    """A run's folder is the command's --out alone: of all settings, texts are names from fixed lists or of scores."""
    with pytest.raises(InspectGanError, match="unknown key 'name'"):
        load_config(None, ["name=../../elsewhere"])
    config = load_config(None)
    texts = [
        f"{room}.{key}"
        for room, values in config.model_dump().items()
        if isinstance(values, dict) and room not in ("detector", "objective")
        for key in values
        if refused(lambda room=room, key=key: load_config(None, [f"{room}.{key}=/elsewhere"])) is None  # type: ignore[misc]
    ]
    # Both are looked up in lists of names before anything is written.
    assert texts == ["data.layout", "scoring.score"]
    with pytest.raises(InspectGanError, match="has no score"):
        load_config(None, ["scoring.score=/elsewhere"]).build(1)


def test_aliases_that_do_not_multiply_are_fine() -> None:
    values, _ = parse_yaml("a: &a {b: 1}\nc: *a\nd: [*a, *a]\n")
    assert values == {"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}, {"b": 1}]}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": NaN}', "[Infinity]", "9" * 5000, "{", b"\xff"])
def test_json_that_is_none_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_messages_are_one_line_a_terminal_has_nothing_to_obey_in() -> None:
    said = str(InspectGanError("a\nb\r\x1b[2J\x9b31m\u2028\u202e\udcff\0 é 測 [red]"))
    assert said == "a\\nb\\r\\x1b[2J\\x9b31m\\u2028\\u202e\\udcff\\x00 é 測 [red]"
    assert printable(said) == said


def test_depth_is_counted_before_anything_is_built() -> None:
    """PyYAML's C parser ended the process in building, before 6.0.4."""
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)[0] is not None
    with pytest.raises(ValueError, match=r"^nested too deeply$"):
        parse_yaml("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
