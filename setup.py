"""Packaging. The folders models, datasets and tools are installed inside inspect_gan, never as top-level packages."""

from pathlib import Path

from setuptools import setup

ENGINE = (
    *("imaging", "patches", "objectives", "training", "scoring", "evaluation", "reporting"),
    *("export", "ablation", "toys", "benchmark", "pages"),
)
# Lower bounds shut out versions with published flaws, see docs/trust.md.
RAY = ["ray>=2.56; python_version < '3.15'"]  # later ones have no wheels yet
OUTSIDE = ("models", "datasets", "tools")
EXPORT = ["onnx>=1.22", "onnxscript", "onnxruntime"]
DOCS = ["mkdocs-material>=9.7.7"]

setup(
    name="inspect-gan",
    version="0.1.0",
    description="Find defects on textured surfaces with GANs trained on good images only",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The inspect-gan authors",
    license_expression="MIT",
    python_requires=">=3.11",
    packages=["inspect_gan", "inspect_gan.configs"] + [f"inspect_gan.{room}" for room in ENGINE + OUTSIDE],
    package_dir={"inspect_gan": "inspect_gan", "inspect_gan.configs": "configs"}
    | {f"inspect_gan.{room}": room for room in OUTSIDE},
    package_data={
        "inspect_gan.configs": ["*.yaml", "ablations/*.yaml", "nanotwice/*.yaml"],
        "inspect_gan.reporting": ["*.html", "*.css", "*.js"],
        "inspect_gan.ablation": ["*.html"],
    },
    install_requires=[
        "torch>=2.10",
        "torchvision",
        "lightning-fabric>=2.6.6",
        "opencv-python-headless>=4.12",
        "scikit-image",
        "scipy>=1.13",
        "tifffile",
        "pillow>=13",
        "numpy",
        "pydantic>=2.4",
        "PyYAML>=6",
        "typer>=0.19",
        "rich",
        "safetensors",
        "tensorboard",
        "matplotlib",
        "jinja2>=3.1.6",
    ],
    extras_require={
        "export": EXPORT,
        "ray": RAY,
        "docs": DOCS,
        "dev": [
            *("setuptools>=77", "pytest>=9.0.3", "pytest-xdist", "hypothesis", "scikit-learn>=1.5"),
            *("ruff", "mypy", "types-PyYAML"),
            *(*EXPORT, *RAY, *DOCS),
        ],
    },
    entry_points={"console_scripts": ["inspect-gan = inspect_gan.tools.cli:process"]},
)
