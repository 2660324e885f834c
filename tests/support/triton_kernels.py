"""The GPU kernels: interpreted on the CPU, compiled on CUDA. Tests that import this are skipped without Triton."""

import importlib

import pytest

pytest.importorskip("triton", reason="Triton is not installed")
gpu = importlib.import_module("fastcifar.kernels.gpu")

interpreted = pytest.mark.skipif(not gpu.INTERPRETED, reason="the kernels are compiled, for CUDA tensors")


def on_each(name: str) -> pytest.MarkDecorator:
    """Run a test in the interpreter and on CUDA; ``name``: the parameter that gets cpu or cuda."""
    here, there = pytest.param("cpu", marks=interpreted), pytest.param("cuda", marks=pytest.mark.gpu)
    return pytest.mark.parametrize(name, [here, there])
