"""What MkDocs asks while it builds the site: README and changelog, which lie outside docs/, become pages of it, and
each detector has one made from its docstring, its recipe and its results."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from inspect_gan.detector import detectors
from inspect_gan.pages.detector import pages

PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}
DETECTORS = "detectors/{}.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the detectors' pages under the overview of them."""
    [listed] = [part["Detectors"] for section in config.nav for part in _parts(section) if "Detectors" in part]
    listed += [DETECTORS.format(name) for name in detectors.names()]
    return config


def _parts(section: dict[str, Any]) -> list[dict[str, Any]]:
    """What a section of the navigation consists of, none for a single page."""
    [content] = section.values()
    return content if isinstance(content, list) else []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, with links as seen from docs/."""
    root = Path(config.config_file_path).parent
    for page, source in PAGES.items():
        text = (root / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    for name, text in pages(root / "docs" / "results").items():
        files.append(File.generated(config, DETECTORS.format(name), content=text))
    return files
