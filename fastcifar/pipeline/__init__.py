"""The contract of input pipelines, their options, and the functions that find and open them."""

from fastcifar.pipeline.contract import Batch, Pipeline, Renderer
from fastcifar.pipeline.finding import available, find_pipeline, open_pipeline, pipeline_names, require_pipeline
from fastcifar.pipeline.request import Request

__all__ = [
    "Batch", "Pipeline", "Renderer", "Request", "available", "find_pipeline", "open_pipeline", "pipeline_names",
    "require_pipeline",
]  # fmt: skip
