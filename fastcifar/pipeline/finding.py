"""Find and open pipelines by name: ours in ``pipelines/``, those of installed packages, and one's own modules.

A pipeline of ours is a file in ``pipelines/``. The pipeline has the file's name, and the file sets ``PIPELINE = <its
class>``.
"""

import importlib
import inspect
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from fastcifar.data.dataset import Dataset
from fastcifar.errors import UsageError, unknown
from fastcifar.pipeline.arguments import dataset_of, with_objects
from fastcifar.pipeline.contract import Pipeline
from fastcifar.pipeline.names import installed, names, no_such, ours
from fastcifar.pipeline.request import Request
from fastcifar.system import foreign


def pipeline_names() -> list[str]:
    """Return the names of all pipelines and forms, ``NAME`` or ``NAME:FORM``: ours, and those of installed packages."""
    return [f"{name}:{form}" if form else name for name in names() for form in _forms(name)]


def available() -> dict[str, str | None]:
    """Return every pipeline name with None if it can run here, else with the reason and the cure."""
    return {name: _missing(name) for name in pipeline_names()}


def find_pipeline(pipeline: str | type[Pipeline]) -> tuple[type[Pipeline], str]:
    """Return the class and the form of a pipeline.

    pipeline: ``NAME`` of one of ours or of an installed package, which declares it as an entry point of the group
    names.GROUP; ``package.module`` or ``FILE.py``, which has ``PIPELINE = <its class>`` (a module lies in the current
    directory or is installed); any of them with ``:FORM``; or the class itself. Raises UsageError for anything else.
    """
    if isinstance(pipeline, str):
        name, _, form = pipeline.partition(":")
        found = _class_of(name)
    else:
        found, form = _checked(pipeline, "the pipeline"), ""
        name = found.__module__
    if form not in found.forms:
        raise unknown("pipeline", pipeline, [f"{name}:{known}" if known else name for known in found.forms])
    return found, form


def require_pipeline(pipeline: str | type[Pipeline], request: Request) -> tuple[type[Pipeline], str]:
    """Return the class and the form of a pipeline, as `find_pipeline` does, without opening it.

    Raises UsageError for an unknown name, a pipeline that cannot run here, or a request that it does not support.
    """
    found, form = find_pipeline(pipeline)
    name = repr(pipeline) if isinstance(pipeline, str) else found.__name__
    if request.shard != (0, 1) and not found.shares:
        raise UsageError(f"pipeline {name} does not share batches out to processes; resident does")
    reason = found.missing(form) or found.refuses(request, form)
    if reason:
        raise UsageError(f"pipeline {name} cannot be used: {reason}")
    return found, form


def open_pipeline(
    pipeline: str | type[Pipeline], dataset: Dataset | str | Path, workers: int | None = None, **request: Any
) -> Pipeline:
    """Open a pipeline over a dataset, or the dataset at a path. The keywords are the fields of Request.

    augment, device and dtype may also be strings: a recipe, and the names of `Loader`'s arguments. pipeline: a name
    such as ``resident`` or ``NAME:FORM``, or a class, as `find_pipeline` takes it. workers: the threads or processes
    that make batches; None: the pipeline's own number. Raises UsageError as `require_pipeline` does, and for workers of
    a pipeline that does not take their number.
    """
    options = Request(dataset_of(dataset), **with_objects(request))
    found, form = require_pipeline(pipeline, options)
    if workers is None:
        return found(options, form)
    if len(inspect.signature(found).parameters) < 3:
        raise UsageError(f"pipeline {pipeline} takes no number of workers; leave workers={workers} out")
    return found(options, form, workers)  # type: ignore[call-arg]


def _class_of(name: str) -> type[Pipeline]:
    """Return the class of a pipeline by its name without a form. Raises UsageError where there is none."""
    points, what = installed().get(name, []), f"pipeline {name!r}"
    owners = (["fastcifar"] if name in ours() else []) + [_owner(point) for point in points]
    if len(owners) > 1:
        raise UsageError(
            f"{what}: {' and '.join(owners)} both have a pipeline of this name; uninstall one of them, or write "
            f"{points[-1].module} for the one of {owners[-1]}"
        )
    if points:
        try:
            loaded = points[0].load()
        except Exception as error:  # foreign code raises errors of any kind
            raise UsageError(
                f"{what}: {owners[0]} declares it as {points[0].value}, whose import raises {foreign.said(error)}; "
                "repair or uninstall the package"
            ) from error
        return _checked(loaded, f"{what} of {owners[0]}")
    if owners:
        own: type[Pipeline] = importlib.import_module(f"fastcifar.pipelines.{name}").PIPELINE
        return own
    if not (name.endswith(".py") or all(part.isidentifier() for part in name.split("."))):
        raise no_such(name)
    try:
        module = foreign.imported(name, what)
    except foreign.NoSuchModule as error:
        raise no_such(name) from error
    if not hasattr(module, "PIPELINE"):
        classes = foreign.public(module, lambda value: isinstance(value, type) and value.__module__ == name)
        raise UsageError(
            f"{what}: the module has no PIPELINE; add the line PIPELINE = {classes[0] if classes else 'YourClass'}"
        )
    return _checked(module.PIPELINE, f"{what}: its PIPELINE")


def _owner(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist is not None else point.value


def _checked(found: Any, what: str) -> type[Pipeline]:
    """Return a class of pipelines. Raises UsageError for anything else, and for a class that lacks a method."""
    if not (isinstance(found, type) and issubclass(found, Pipeline)):
        raise UsageError(f"{what} is {found!r:.80}, no class of pipelines; derive one from fastcifar.Pipeline")
    lacking = sorted(getattr(found, "__abstractmethods__", ()))
    if lacking:
        raise UsageError(f"{what} is {found.__name__}, which lacks {' and '.join(lacking)}; define them")
    return found


def _forms(name: str) -> tuple[str, ...]:
    """Return the forms of a pipeline; only the plain one where its class cannot be found."""
    try:
        return _class_of(name).forms
    except UsageError:
        return ("",)


def _missing(pipeline: str) -> str | None:
    try:
        found, form = find_pipeline(pipeline)
    except UsageError as error:
        return str(error)
    return found.missing(form)
