"""The commands ``fastcifar convert`` and ``fastcifar verify``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fastcifar.cli.complete import choices
from fastcifar.cli.complete import formats as of_formats
from fastcifar.cli.options import Json
from fastcifar.show.console import next_step, note, say
from fastcifar.show.text import parts
from fastcifar.system.paths import path_of


def convert_command(
    source: Annotated[
        str,
        typer.Argument(
            help="Kaggle's cifar-10.zip or folder; an original CIFAR-10 or CIFAR-100 archive, python or binary; a "
            "folder, tar or zip of class folders of PNG or JPEG; the folder of SVHN (.mat), CIFAR-10.1 or CIFAR-10-C "
            "(.npy); cifar10 or cifar100 (download), digits (built in) or synthetic:N."
        ),
    ],
    dest: Annotated[Path, typer.Argument(parser=path_of, help="The dataset directory to make.")],
    formats: Annotated[
        str,
        typer.Option(
            help="raw (always written), ffcv or dali; comma-separated.",
            autocompletion=choices(of_formats, several=True),
        ),
    ] = "raw",
    split_seed: Annotated[
        int | None,
        typer.Option(
            help="Seed of the 4:1 training/validation split; by default 0, or the source's own validation images."
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="CIFAR-100's labels: fine (the default, 100 classes) or coarse (20).")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="Of CIFAR-10-C, a corruption: fog-3 for severity 3, fog for all five; comma-separated. Of "
            "CIFAR-10.1, the version: v4 or v6."
        ),
    ] = None,
    resize: Annotated[
        bool,
        typer.Option(
            "--resize", help="Scale the central square of images of another size to 32×32: this changes their pixels."
        ),
    ] = False,
    mode: Annotated[
        str | None,
        typer.Option(help="rgb: convert grey and palette images to RGB, and drop transparency."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the dataset at DEST.")] = False,
    as_json: Json = False,
) -> None:
    """Convert a source into a dataset directory. The directory is made completely or not at all.

    Examples: fastcifar convert ~/Downloads/cifar-10.zip data/cifar10 --formats raw,ffcv,dali

    fastcifar convert CIFAR-10-C data/fog3 --part fog-3
    """
    from fastcifar.data.convert import convert

    options = {"labels": labels, "part": part, "resize": resize, "mode": mode}
    dataset = convert(source, dest, parts(formats), split_seed, overwrite, **options)
    if as_json:
        print(json.dumps(dataset.manifest))
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in dataset.manifest["counts"].items())
    if "train" in dataset.manifest["counts"] and dataset.manifest["split_seed"] is None:
        counts = counts.replace("train", f"train ({len(dataset.ids('validation')):,} of them for validation)")
    say(f"{dest}: {counts} images of {len(dataset.classes)} classes, from {dataset.name}")
    for text in dataset.manifest.get("notes", []):
        note(text)
    if "train" in dataset.manifest["counts"]:
        next_step("train", "--exp", 2, "--data", dest)


def verify_command(
    dest: Annotated[Path, typer.Argument(parser=path_of, help="A dataset directory.")], as_json: Json = False
) -> None:
    """Hash a dataset's files again and compare the hashes with its manifest.

    Example: fastcifar verify data/cifar10
    """
    from fastcifar.data.dataset import MANIFEST, verify
    from fastcifar.system.seals import SEAL

    dataset = verify(dest)
    if as_json:
        print(json.dumps({"path": str(dest), "sha256": dataset.sha256, "files": len(dataset.manifest["files"])}))
    else:
        say(f"{dest}: all {len(dataset.manifest['files'])} files are as they were written ({dataset.sha256[:12]})")
    if SEAL not in dataset.manifest:
        note(f"its {MANIFEST} is of before version 0.3 and has no seal: a changed source or version in it is not seen")
