"""Find defects on textured surfaces with GANs trained on good images only."""

from pathlib import Path

__version__ = "0.1.0"

# In a source tree that is not installed, and wherever that tree shadows an installed copy, the folders
# models, datasets, tools and configs lie beside this package: let `inspect_gan.models` find them there.
_root = Path(__file__).resolve().parent.parent
if (_root / "setup.py").is_file() and (_root / "models" / "__init__.py").is_file():
    __path__.append(str(_root))
