"""What MkDocs asks while it builds the site: README and changelog, which lie outside docs/, become pages of it, and
each detector has one made from its docstring, its recipe and its results."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from inspect_gan.pages.detector import pages

PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages, with links as seen from docs/."""
    root = Path(config.config_file_path).parent
    for page, source in PAGES.items():
        text = (root / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    for name, text in pages(root / "docs" / "results").items():
        files.append(File.generated(config, f"detectors/{name}.md", content=text))
    return files
