"""The checks of libraries: those that fastcifar requires, and those that a pipeline or an option needs."""

from fastcifar.system import cures, machine
from fastcifar.system.doctor.finding import Finding, finding, library, probe
from fastcifar.system.measure import DALI_BUILDS

RETRY = "in a checkout, make install tries again and says why it fails"
OTHERS = {
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "matplotlib": "matplotlib.pyplot",
    "jinja2": "jinja2",
    "pillow": "PIL.Image",
    "pyyaml": "yaml",
    "msgspec": "msgspec",
    "safetensors": "safetensors.torch",
    "rich": "rich",
    "typer": "typer",
}
"""The other packages that setup.py requires, by their names on an index, each with a module of it."""


def torch() -> Finding:
    shown = "f'{module.__version__}, {module.get_num_threads()} threads'"
    return library("torch", "torch", "pip install torch torchvision", required=True, shown=shown)


def torchvision() -> Finding:
    """Check that torchvision's compiled operators were built for the installed torch: one of them is called."""
    code = """
import torch, torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
print(torchvision.__version__)
"""
    ok, detail = probe(code)
    found = machine.version("torchvision")
    if not ok and found:
        detail = f"{found} does not work with torch {machine.version('torch')}: {detail}"
    return finding("torchvision", ok, detail, cures.torchvision(), required=True)


def numba() -> Finding:
    return library("numba", "numba", "pip install numba", required=True)


def others() -> Finding:
    """Import each of OTHERS, in a process of its own."""
    results = {name: probe(f"import {module}") for name, module in OTHERS.items()}
    broken = [name for name, (ok, _) in results.items() if not ok]
    detail = "; ".join(f"{name}: {results[name][1]}" for name in broken)
    return finding(
        "other libraries",
        not broken,
        detail or ", ".join(f"{name} {machine.version(name)}" for name in OTHERS),
        f"pip install --force-reinstall {' '.join(broken)}",
        required=True,
    )


def cuda() -> Finding:
    code = """
import torch
if torch.version.cuda is None:
    raise SystemExit("this torch is built for the CPU alone")
torch.cuda.init()
for i in range(torch.cuda.device_count()):
    seen = torch.cuda.get_device_properties(i)
    kind = "in hardware" if torch.cuda.is_bf16_supported(including_emulation=False) else "only emulated"
    print(f"{seen.name}, {seen.total_memory / 2**30:.0f} GiB, capability {seen.major}.{seen.minor}, bfloat16 {kind}")
"""
    cure = "everything runs on the CPU; for a GPU, install NVIDIA's driver and a CUDA build of torch"
    return finding("CUDA", *probe(code), cure)


def triton() -> Finding:
    return library("Triton", "triton", "it comes with torch on Linux, and is used on CUDA devices alone")


def ffcv() -> Finding:
    cure = (
        f"{RETRY}: its build needs g++, pkg-config, libopencv-dev and libturbojpeg0-dev (Debian's names); then "
        f"{cures.extra('ffcv')}"
    )
    return library("FFCV", "ffcv", cure, shown="__import__('importlib.metadata').metadata.version('ffcv')")


def dali() -> Finding:
    """Check DALI, of whose builds only one may be installed, since they own the same files."""
    builds = [name for name in DALI_BUILDS if machine.version(name)]
    if len(builds) > 1:
        return Finding(
            "DALI",
            False,
            f"{' and '.join(builds)} are installed, and the later one has overwritten files of the other",
            f"pip uninstall -y {' '.join(builds)}; then {cures.extra('dali')}",
        )
    shown = f"__import__('nvidia.dali').dali.__version__ + {' '.join(['', *builds])!r}"
    return library("DALI", "nvidia.dali.fn", f"{RETRY}; or {cures.extra('dali')}", shown=shown)


def py7zr() -> Finding:
    return library("py7zr", "py7zr", f"only Kaggle's .7z files need it: {cures.extra('kaggle')}")


def ray() -> Finding:
    return library("Ray", "ray", f"only `fastcifar grid --executor ray` needs it: {cures.extra('ray')}")


def tensorboard() -> Finding:
    return library("TensorBoard", "tensorboard", f"only `--log tensorboard` needs it: {cures.extra('tensorboard')}")
