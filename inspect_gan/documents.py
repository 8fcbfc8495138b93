"""Small text files that somebody else may have written or damaged: read whole, as data, never as code.

Everything wrong with a file's content is a ValueError of one line, so that readers need to catch but one.
"""

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import yaml

MAX_BYTES = 1 << 26  # no text of a run comes near it
MAX_BITS = 128  # of an integer; no setting needs more, and longer ones cannot even be printed
MAX_DEPTH = 100  # of YAML; no setting lies deeper than ten
REPEATS = 10_000  # values that YAML aliases may add to those that are written out


def read_text(path: Path) -> str:
    """A UTF-8 file. Raises OSError when it cannot be read or is a pipe or device, which may never end; ValueError when
    it is too long or not UTF-8."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{'a folder' if stat.S_ISDIR(status.st_mode) else 'not a regular file'}")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    return data.decode("utf-8")


def parse_json(text: str | bytes) -> Any:
    """Raises ValueError for what is no JSON, nested too deeply, or holds numbers that are not finite."""
    try:
        return json.loads(text, parse_constant=_not_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """Raises OSError and ValueError as `read_text` and `parse_json` do."""
    return parse_json(read_text(path))


def parse_yaml(text: str) -> tuple[Any, yaml.Node | None]:
    """The values and the node they were made of, which knows its lines; None for an empty text.

    Raises ValueError for what is no YAML, tags that would make other objects than plain data, too deep nesting, and
    aliases that refer to themselves or multiply.
    """
    loader = _Loader(text)
    try:
        _check_depth(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        _check_aliases(node)
        return loader.construct_document(node), node
    except RecursionError:  # aliases of aliases can lie deeper than what is written
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    finally:
        loader.dispose()


def _not_finite(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _check_depth(text: str) -> None:
    """The C parser of PyYAML before 6.0.4 ends the process on what is nested deeply; its events come one by one."""
    loader, depth = _Loader(text), 0
    try:
        while loader.check_event():
            event = loader.get_event()
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError("nested too deeply")
    finally:
        loader.dispose()


def _check_aliases(root: yaml.Node) -> None:
    sizes: dict[yaml.Node, int | None] = {}

    def size(node: yaml.Node) -> int:
        """Number of values in a node, those behind aliases counted each time."""
        if node in sizes:
            known = sizes[node]
            if known is None:
                raise ValueError("an alias refers to what it stands in")
            return known
        sizes[node] = None
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        sizes[node] = found = 1 + sum(map(size, children))
        return found

    total = size(root)
    if total > len(sizes) + REPEATS:
        raise ValueError(f"aliases (*name) multiply {len(sizes)} values to {total}; write them out")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The C parser, where PyYAML has it, is ten times as fast."""


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    value: int = loader.construct_yaml_int(node)
    if value.bit_length() > MAX_BITS:
        raise ValueError(f"the number on line {node.start_mark.line + 1} is too large")
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
