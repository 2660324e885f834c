"""Layers of several runs by fused kernels."""
