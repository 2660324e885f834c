"""The option --config: a YAML file with values for the other options of a command. The command line wins over it.

The keys are the options' names, such as ``seeds: 0,1,2`` or ``dry-run: true``. A list stands for comma-separated
values. The values of --set and --only are a mapping: ``set: {lr: [1e-3, 3e-3]}``.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from fastcifar.errors import UsageError, unknown
from fastcifar.system.paths import path_of
from fastcifar.system.schema import read_bounded

LARGEST = 1 << 20  # bytes of a file of options


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a file the defaults of a command's options. Raises UsageError for a file that is no such one.

    --config is an eager option, so this is called before the other options are parsed.
    """
    if path is None or context.resilient_parsing:  # a shell that asks for completions
        return None
    options = {
        name.removeprefix("--"): parameter
        for parameter in context.command.params
        for name in parameter.opts
        if name.startswith("--") and name not in ("--config", "--help")
    }
    defaults: dict[str, Any] = {}
    for key, value in _parsed(path).items():
        name = str(key).replace("_", "-")
        if name not in options:
            raise UsageError(f"{path}: {unknown('option', key, options)}")
        parameter: Any = options[name]
        defaults[parameter.name] = _pairs(path, name, value) if parameter.multiple else _text(path, name, value)
    context.default_map = defaults
    return path


def merged(context: typer.Context, parameter: typer.CallbackParam, pairs: list[str] | None) -> list[str]:
    """Return the key=value pairs of the command line, after those of the file whose keys it does not have."""
    given = list(pairs or [])
    defaults: Any = context.default_map or {}
    from_file: list[str] = list(defaults.get(str(parameter.name), []))
    if given == from_file:  # the option is not on the command line
        return given
    keys = {pair.partition("=")[0] for pair in given}
    if "epochs" in keys:  # --epochs is the same setting and would win
        defaults.pop("epochs", None)
    return [pair for pair in from_file if pair.partition("=")[0] not in keys] + given


def _parsed(path: Path) -> Mapping[str, Any]:
    """Return the mapping of a file. All scalars are texts, so that ``off`` and ``1e-3`` stay what they are."""
    try:
        yaml: Any = import_module("yaml")
    except ImportError as error:
        raise UsageError(f"--config needs PyYAML ({error}); pip install pyyaml") from error
    try:
        text = read_bounded(path, LARGEST, "write nothing but options in it").decode()
        _refuse_twice(path, yaml.compose(text, Loader=yaml.BaseLoader))
        content = yaml.load(text, Loader=yaml.BaseLoader)  # makes texts, lists, mappings
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}; give the path of a YAML file") from error
    except (UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"--config {path} is not YAML ({' '.join(str(error).split())}); repair it") from error
    if not isinstance(content, dict):
        raise UsageError(f"--config {path} is not a mapping of options to values; write lines such as seeds: 0,1,2")
    return content


def _refuse_twice(path: Path, node: Any) -> None:
    """Raise UsageError for a key that a mapping has twice. PyYAML would keep the last value."""
    known: set[str] = set()
    for key, value in node.value if node is not None and node.id == "mapping" else []:
        name = str(key.value)
        if name in known:
            raise UsageError(f"{path} has the key {name!r} twice, in line {key.start_mark.line + 1}, too; keep one")
        known.add(name)
        _refuse_twice(path, value)


def _pairs(path: Path, name: str, value: Any) -> list[str]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {name} is not a mapping; write it as {name}: {{lr: 1e-3}}")
    return [f"{key}={_text(path, f'{name} {key}', each)}" for key, each in value.items()]


def _text(path: Path, name: str, value: Any) -> str:
    parts: Iterable[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) and part for part in parts):
        raise UsageError(f"{path}: {name} is neither a value nor a list of values; write one, or leave it out")
    return ",".join(parts)


Config = Annotated[
    Path | None,
    typer.Option(
        "--config", parser=path_of, callback=read_config, is_eager=True, help="A YAML file with the values of options."
    ),
]
