"""The layout of class folders: the part and the class of each image, and what to do with files that have no place."""

from fastcifar.data.sources.files import Files, Folder
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.show.text import quoted

VALIDATION = ("val", "valid", "validation")
PARTS = ("train", "test", *VALIDATION)
SUFFIXES = (".png", ".jpg", ".jpeg")
OTHER_IMAGES = (".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif", ".ppm", ".pgm")
LAYOUT = "train/<class>/<image>, with or without val/ and test/ like it, or <class>/<image>"

Paths = dict[str, list[str]]
"""{name of a file or folder: the parts of its path below a folder}"""


def layout(files: Files) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return {part: {member name: class name}}, always with "train", and sentences about the layout for people.

    A part is one of PARTS. One folder around all others is passed over, whatever its name, also within a part as in
    train/train/<class>. Raises FastcifarError for another layout and for a class without images in any part, UsageError
    for a dataset of fastcifar.
    """
    if not files.names:
        raise FastcifarError(f"{files.name} holds no files; {LAYOUT} is needed")
    _refuse_dataset(files)
    places, empty = ({name: name.split("/") for name in names} for names in (files.names, files.empty))
    notes: list[str] = []
    while len(tops := _tops(places)) == 1 and tops != {"train"} and max(map(len, places.values())) > 2 and not notes:
        (top,) = tops
        places, empty = _below(places, top), _below(empty, top)
        for name in (name for name, parts in places.items() if not parts):  # in an archive, beside a folder of its name
            raise _misplaced(files, name, [name], "")
        if top in PARTS:
            notes.append(f"there is no train/ beside {top}/, so the images of {top}/ are the train images")
    by_part = not notes and (not tops.isdisjoint(("train", "test")) or tops <= {*PARTS})
    images: dict[str, dict[str, str]] = {"train": {}}
    classless: Paths = {}
    for part in sorted(tops) if by_part else ["train"]:
        mine, bare = (_below(places, part), _below(empty, part)) if by_part else (places, empty)
        if by_part and {len(parts) for parts in mine.values()} == {3} and len(_tops(mine)) == 1:
            (folder,) = _tops(mine)
            mine, bare = _below(mine, folder), _below(bare, folder)
        for name, parts in mine.items():
            if len(parts) != 2 or not name.lower().endswith(SUFFIXES) or (by_part and part not in PARTS):
                raise _misplaced(files, name, parts, part if by_part else "")
        images[part] = {name: parts[0] for name, parts in mine.items()}
        classless |= bare
    _refuse_empty_classes(files, images, classless, by_part)
    bare_parts = {parts[0] for parts in empty.values() if len(parts) == 1} & {*PARTS} - tops
    notes += [f"the folder {part}/ holds no images" for part in sorted(bare_parts)]
    return images, notes


def _tops(paths: Paths) -> set[str]:
    return {parts[0] for parts in paths.values()}


def _below(paths: Paths, top: str) -> Paths:
    """Return what lies below a folder. A file of the folder's name is kept, without parts, as nothing fits there."""
    return {name: parts[1:] for name, parts in paths.items() if parts[0] == top}


def _refuse_dataset(files: Files) -> None:
    """Raise UsageError where a dataset directory of fastcifar is among the files."""
    for name in files.names:
        folder, _, last = name.rpartition("/")
        start = f"{folder}/" if folder else ""
        if last == "manifest.json" and any(f"{start}{part}.images.npy" in files.names for part in ("train", "test")):
            if not isinstance(files, Folder):
                raise UsageError(f"{files.name} holds a fastcifar dataset; unpack it, and give its folder as SRC")
            raise UsageError(
                f"{files.path / folder} is a fastcifar dataset, not images to convert; to copy it, give its own folder "
                "as SRC, and to convert the images beside it, move it to another place"
            )


def _refuse_empty_classes(files: Files, images: dict[str, dict[str, str]], empty: Paths, by_part: bool) -> None:
    """Raise FastcifarError for a class folder without images in any part: without it, later labels would move up."""
    known = {name for members in images.values() for name in members.values()}
    known |= set() if by_part else {*PARTS}
    for name, parts in empty.items():
        if len(parts) == 1 and parts[0] not in known:
            raise FastcifarError(
                f"{files.name}: the class folder {quoted(name)} holds no images, and whether it is a class decides "
                "about the labels of the classes after it; put its images there, or remove the empty folder"
            )


def _misplaced(files: Files, name: str, parts: list[str], part: str) -> FastcifarError:
    """Return the error for a file without a place. parts: its path below the part; part: empty where there is none."""
    move = "move it out of the folder" if isinstance(files, Folder) else "make the archive without it"
    suffix = name.lower()[name.rfind(".") :]
    if parts and part not in ("", *PARTS):
        cure = f"{part}/ is none of {', '.join(PARTS)}: {move}"
    elif not part and parts[0] in PARTS and len(parts) > 2:
        cure = f"{parts[0]}/ lies beside class folders: move these into train/, or {move}"
    elif suffix in OTHER_IMAGES:
        cure = "only PNG and JPEG are read: convert it to PNG, for example with Pillow"
    elif suffix not in SUFFIXES:
        cure = f"it is no image: {move}"
    elif len(parts) < 2:
        cure = "it is in no class folder: move it into one"
    else:
        cure = f"it is in a folder below the class folder {quoted(parts[0])}: move it up into that one"
    return FastcifarError(f"{files.name} holds {quoted(name)}, which has no place in {LAYOUT} (.png, .jpg); {cure}")
