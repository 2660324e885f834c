"""All of fastcifar's metadata. pyproject.toml holds only the build system and the tools' settings.

The package map is written by hand because ``kernels/`` and ``pipelines/`` stand at the top of the checkout while
nothing of those names may land at the top of site-packages: there they are ``fastcifar.kernels`` and
``fastcifar.pipelines``. A new sub-package must be added to PACKAGES; tests/test_layout.py notices when it is not.
"""

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent

PACKAGES = {
    "fastcifar": "fastcifar",
    "fastcifar.augment": "fastcifar/augment",
    "fastcifar.cli": "fastcifar/cli",
    "fastcifar.data": "fastcifar/data",
    "fastcifar.data.formats": "fastcifar/data/formats",
    "fastcifar.data.sources": "fastcifar/data/sources",
    "fastcifar.diagnose": "fastcifar/diagnose",
    "fastcifar.grid": "fastcifar/grid",
    "fastcifar.loader": "fastcifar/loader",
    "fastcifar.models": "fastcifar/models",
    "fastcifar.packs": "fastcifar/packs",
    "fastcifar.packs.fused": "fastcifar/packs/fused",
    "fastcifar.pipeline": "fastcifar/pipeline",
    "fastcifar.predict": "fastcifar/predict",
    "fastcifar.report": "fastcifar/report",
    "fastcifar.rng": "fastcifar/rng",
    "fastcifar.runs": "fastcifar/runs",
    "fastcifar.show": "fastcifar/show",
    "fastcifar.system": "fastcifar/system",
    "fastcifar.system.doctor": "fastcifar/system/doctor",
    "fastcifar.testing": "fastcifar/testing",
    "fastcifar.throughput": "fastcifar/throughput",
    "fastcifar.training": "fastcifar/training",
    "fastcifar.kernels": "kernels",
    "fastcifar.kernels.cpu": "kernels/cpu",
    "fastcifar.kernels.gpu": "kernels/gpu",
    "fastcifar.pipelines": "pipelines",
    "fastcifar.pipelines.dali": "pipelines/dali",
    "fastcifar.pipelines.ffcv": "pipelines/ffcv",
    "fastcifar.pipelines.resident": "pipelines/resident",
}

REQUIRED = [
    "torch>=2.6",
    "torchvision>=0.21",
    "numba>=0.61",
    "numpy>=1.26",
    "rich>=13.7",
    "typer>=0.15",
    "msgspec>=0.19",
    "safetensors>=0.4.5",
    "pillow>=10.3",
    "jinja2>=3.1",
    "matplotlib>=3.9",
    "scikit-learn>=1.5",
    "scipy>=1.13",
    "pyyaml>=6.0",
]

EXTRAS = {
    # Built from source: needs a C++ compiler, pkg-config, OpenCV and libjpeg-turbo (see tools/install.py).
    "ffcv": ["ffcv>=1.0.2"],
    # The CUDA 12 build works with drivers from CUDA 12 on, also beside torch's CUDA 13 libraries in one process; on a
    # machine without a GPU its CPU operators work, too. The two builds own the same files: never install both.
    "dali": ["nvidia-dali-cuda120>=1.52; platform_system == 'Linux'"],
    "dali-cuda130": ["nvidia-dali-cuda130>=1.52; platform_system == 'Linux'"],
    "kaggle": ["py7zr>=1.1.4"],
    "ray": ["ray>=2.40"],
    "tensorboard": ["tensorboard>=2.18"],
    "wandb": ["wandb>=0.20"],
    "mlflow": ["mlflow-skinny>=3.0"],
    # Libraries that people use the Loader and train_run with; the examples and the tests use them, too.
    "lightning": ["lightning>=2.5"],
    "accelerate": ["accelerate>=1.2"],
    "optuna": ["optuna>=4.0"],
    "timm": ["timm>=1.0"],
    "kornia": ["kornia>=0.8"],
    "dev": [
        "accelerate>=1.2",
        "build>=1.2",
        "hypothesis>=6.120",
        "kornia>=0.8",
        "lightning>=2.5",
        "mypy>=2.4,<2.5",  # pinned, as is ruff: a new release of either finds new faults in old code
        "optuna>=4.0",
        "pre-commit>=4.0",
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "ray>=2.40",  # as the extra of that name: its executor is tested
        "ruff>=0.17,<0.18",
        "selenium>=4.25",  # with Chromium, which tools/install.py adds where it may: the report's page is tested in it
        "setuptools>=77",
        "tensorboard>=2.18",  # as the extra of that name: its events are tested
        "wheel>=0.45",
    ],
}


def version() -> str:
    """``__version__`` as fastcifar/version.py states it, read without importing the package."""
    source = (ROOT / "fastcifar" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', source, re.MULTILINE)
    if found is None:
        raise RuntimeError("fastcifar/version.py states no __version__")
    return found.group(1)


setup(
    name="fastcifar",
    version=version(),
    description="A proven-equal benchmark of image input pipelines and a fast CIFAR-10 trainer",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="fastcifar contributors",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=list(PACKAGES),
    package_dir=PACKAGES,
    package_data={f"fastcifar.{name}": ["*.html", "*.css", "*.js"] for name in ("show", "report", "throughput")},
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["fastcifar = fastcifar.cli.app:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
