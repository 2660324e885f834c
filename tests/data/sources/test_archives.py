"""Folders and archives: listed and streamed alike; damage, tricks and traps refused; nothing written anywhere."""

import errno
import io
import os
import random
import re
import stat
import sys
import tarfile
import threading
import tracemalloc
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.builders import KINDS, SEVEN_ZIP, TAR_MODES, packed, seven_zip

from fastcifar.data.sources.archives import open_7z, open_files
from fastcifar.errors import FastcifarError, UsageError

LIMIT = 1 << 16
TREE = {f"a/{number}.bin": bytes([number]) * (400 * number) for number in (3, 1, 2, 0)} | {"b.txt": b"text"}
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def contents(path: Path, limit: int = LIMIT) -> dict[str, bytes]:
    with closing(open_files(path)) as files:
        return dict(files.stream(set(files.names), limit))


def everything_under(path: Path) -> set[Path]:
    return set(path.rglob("*"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_files(tmp_path, kind):
    hidden = {".DS_Store": b"", "__MACOSX/a/._1.bin": b"x", "a/Thumbs.db": b"y", "a/.hidden/z": b"z"}
    path = packed({"./a//9.bin" if kind in TAR_MODES else "a/9.bin": b"9", **hidden, **TREE}, kind, tmp_path / "it")
    assert contents(path) == TREE | {"a/9.bin": b"9"}
    with closing(open_files(path)) as files:
        for _ in range(2):  # an archive can be streamed again
            assert dict(files.stream({"a/3.bin", "b.txt"}, LIMIT)) == {"a/3.bin": TREE["a/3.bin"], "b.txt": b"text"}
        assert files.read("a/1.bin", LIMIT) == TREE["a/1.bin"]
        assert files.sha256() == files.sha256() != open_hash_of_other(tmp_path, kind)
        assert files.title == "it"


def open_hash_of_other(tmp_path: Path, kind: str) -> str:
    with closing(open_files(packed({"a/9.bin": b"8"}, kind, tmp_path / "other"))) as files:
        return files.sha256()


def test_a_folder_is_hashed_by_names_and_contents_in_any_order(tmp_path):
    hashes = []
    for number, tree in enumerate(
        (TREE, dict(reversed(TREE.items())), TREE | {"b.txt": b"tex"}, {"a": b"bc"}, {"ab": b"c"})
    ):
        hashes.append(open_files(packed(tree, "folder", tmp_path / str(number))).sha256())
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


@pytest.mark.parametrize("kind", ["zip", *TAR_MODES, SEVEN_ZIP])
def test_cut_short_anywhere_it_is_refused(tmp_path, kind):
    content = packed(TREE, kind, tmp_path / "whole").read_bytes()
    step = max(1, len(content) // 60)
    end = len(content.rstrip(b"\0"))  # a tar file can do without most of the zeros after it
    for cut in sorted({*range(0, end, step), *range(0, end, 512), end - 1}):
        (tmp_path / "cut").write_bytes(content[:cut])
        with pytest.raises(FastcifarError, match=re.escape(str(tmp_path / "cut"))):
            contents(tmp_path / "cut")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", SEVEN_ZIP])
def test_a_flipped_byte_is_noticed_or_harmless(tmp_path, kind):
    content = packed(TREE, kind, tmp_path / "whole").read_bytes()

    @quick
    @given(st.integers(0, len(content) - 1), st.integers(1, 255))
    def flipped(place, change):
        damaged = bytearray(content)
        damaged[place] ^= change
        (tmp_path / "flipped").write_bytes(damaged)
        try:
            found = contents(tmp_path / "flipped")
        except FastcifarError:
            return
        assert all(TREE[name] == found[name] for name in TREE.keys() & found.keys())

    flipped()


plain = st.text("ab1", min_size=1, max_size=3)
escapes = st.one_of(
    st.lists(plain, max_size=2).flatmap(
        lambda parts: st.integers(0, len(parts)).map(lambda at: "/".join([*parts[:at], "..", *parts[at:]]))
    ),
    plain.map("/".__add__),
    plain.map("C:".__add__),
    st.tuples(plain, plain).map("\\".join),
)


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["zip", "tar", SEVEN_ZIP])
def test_a_name_that_leads_outside_is_refused_and_nothing_is_written(tmp_path, kind):
    @quick
    @given(escapes, st.booleans())
    def refused(name, hidden):
        assume(not (kind == SEVEN_ZIP and "\\" in name))  # py7zr reads it as a slash
        tree = {"a/1.png": b"1", ".hidden/" + name if hidden and ".." in name else name: b"evil"}
        path = packed_with_raw_names(tree, kind, tmp_path / "archive")
        before = everything_under(tmp_path.parent)
        with pytest.raises(FastcifarError, match="leads outside"):
            contents(path)
        assert everything_under(tmp_path.parent) == before

    refused()


def packed_with_raw_names(tree, kind, path):
    """py7zr refuses to write such names, so for 7z they replace harmless ones of the same length in the header."""
    if kind != SEVEN_ZIP:
        return packed(tree, kind, path)
    py7zr = pytest.importorskip("py7zr")
    file = io.BytesIO()
    with py7zr.SevenZipFile(file, "w") as archive:
        archive.set_encoded_header_mode(False)
        for number, content in enumerate(tree.values()):
            archive.writestr(content, f"harmless{number}")
        for member, name in zip(archive.header.files_info.files, tree, strict=True):
            member["filename"] = name
    path.write_bytes(file.getvalue())
    return path


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "it.tar", "w") as archive:
        member = tarfile.TarInfo("train")
        member.type, member.linkname = kind, "/etc"
        archive.addfile(member)
    with pytest.raises(FastcifarError, match="'train', a link or device"):
        open_files(tmp_path / "it.tar")


def test_links_in_a_zip_or_7z_are_refused(tmp_path):
    info = zipfile.ZipInfo("train")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive:
        archive.writestr(info, "/etc")
    py7zr = pytest.importorskip("py7zr")
    (tmp_path / "link").symlink_to("it.zip")
    with py7zr.SevenZipFile(tmp_path / "it.7z", "w") as archive:
        archive.write(tmp_path / "link", "train")
    for name in ("it.zip", "it.7z"):
        with pytest.raises(FastcifarError, match="'train', a link or device"):
            open_files(tmp_path / name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("again", ["a/1.png", "./a/1.png", "a//1.png"])
def test_duplicates_are_refused(tmp_path, again):
    with zipfile.ZipFile(tmp_path / "it.zip", "w") as archive, tarfile.open(tmp_path / "it.tar", "w") as tar:
        for name in ("a/1.png", again):
            archive.writestr(name, name)
            tar.addfile(tarfile.TarInfo(name))
    for name in ("it.zip", "it.tar"):
        with pytest.raises(FastcifarError, match=r"holds 'a/1\.png' twice"):
            open_files(tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_larger_than_any_image_is_refused_unread(tmp_path, kind):
    path = packed({"a": bytes(LIMIT + 1)}, kind, tmp_path / "it")
    with pytest.raises(FastcifarError, match=r"'a' in .*it has 65,537 bytes; at most 65,536"):
        contents(path)


def test_a_zip_bomb_behind_a_small_declared_size_stays_small(tmp_path):
    packed({"a": bytes(50 << 20)}, "zip", tmp_path / "it.zip")
    content = (tmp_path / "it.zip").read_bytes()
    (tmp_path / "it.zip").write_bytes(content.replace((50 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(FastcifarError, match="cannot read 'a' in"):
            contents(tmp_path / "it.zip")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_closing_a_damaged_7z_does_not_hide_its_damage(tmp_path, monkeypatch):
    content = bytearray(packed(TREE, SEVEN_ZIP, tmp_path / "whole").read_bytes())
    content[40] ^= 0x55
    (tmp_path / "damaged").write_bytes(content)

    def fail(archive):
        raise AttributeError("'SevenZipFile' object has no attribute 'worker'")  # as py7zr 1.0 does

    monkeypatch.setattr("py7zr.SevenZipFile.close", fail)
    with pytest.raises(FastcifarError, match=r"cannot read .*damaged"):
        contents(tmp_path / "damaged")


def test_an_encrypted_archive_is_refused(tmp_path):
    (tmp_path / "it.7z").write_bytes(seven_zip({"a": b"b"}, password="secret"))
    with pytest.raises(UsageError, match=r"it\.7z is encrypted"):
        open_files(tmp_path / "it.7z")


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "it").write_bytes(b"text, not an archive")
    with pytest.raises(UsageError, match="it is neither a folder nor a zip, tar"):
        open_files(tmp_path / "it")
    (tmp_path / "one.gz").write_bytes(b"\x1f\x8b and then nothing of the kind")
    with pytest.raises(FastcifarError, match=r"cannot read .*one\.gz"):
        open_files(tmp_path / "one.gz")


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", SEVEN_ZIP])
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch, kind):
    path = packed(TREE, kind, tmp_path / "it")

    def denied(name, *mode, **options):
        if str(name).startswith(str(path)):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return open(name, *mode, **options)

    for module in ("archives", "files"):
        monkeypatch.setattr(f"fastcifar.data.sources.{module}.open", denied, raising=False)
    with pytest.raises(FastcifarError, match=r"cannot read .*it.*Permission denied[^;]*$"):
        contents(path)


def test_a_folder_that_cannot_be_listed_is_not_left_out(tmp_path, monkeypatch):
    path, scandir = packed(TREE, "folder", tmp_path / "it"), os.scandir

    def denied(folder):
        if str(folder).endswith("/a"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(FastcifarError, match=r"cannot read the folder .*it/a: Permission denied"):
        open_files(path)


def test_what_is_neither_file_nor_folder_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for a writer
    with pytest.raises(UsageError, match="pipe is a device or a pipe, not a file; give a folder or an archive"):
        open_files(tmp_path / "pipe")


@pytest.mark.parametrize("kind", KINDS)
def test_folders_without_files_are_known(tmp_path, kind):
    path, names = tmp_path / "it", ["a", "none", "one/two", ".hidden/none", "__MACOSX"]
    if kind == "folder":
        packed({"a/1.png": b"1", "one/two/.gitkeep": b""}, kind, path)
        for name in names:
            (path / name).mkdir(parents=True, exist_ok=True)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(f"{name}/", b"")
            archive.writestr("a/1.png", b"1")
    elif kind == SEVEN_ZIP:
        py7zr = pytest.importorskip("py7zr")
        with py7zr.SevenZipFile(path, "w") as archive:
            for name in names:
                (tmp_path / "empty" / name).mkdir(parents=True, exist_ok=True)
                archive.write(tmp_path / "empty" / name, name)
            archive.writestr(b"1", "a/1.png")
    else:
        with tarfile.open(path, TAR_MODES[kind]) as archive:
            for name in ["./", *names]:
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
            archive.addfile(tarfile.TarInfo("a/1.png"))
    with closing(open_files(path)) as files:
        assert files.names == ("a/1.png",)
        assert set(files.empty) - {"one"} == {"none", "one/two"}


def test_the_title_of_a_file_can_be_printed(tmp_path):
    path = packed(TREE, "folder", tmp_path / os.fsdecode(b"caf\xe9"))
    assert open_files(path).title == "caf\ufffd"


def test_a_loop_of_links_in_a_folder_is_refused(tmp_path):
    packed(TREE, "folder", tmp_path / "it")
    (tmp_path / "it" / "a" / "loop").symlink_to(tmp_path / "it")
    with pytest.raises(FastcifarError, match="reached twice"):
        open_files(tmp_path / "it")


def test_leaving_a_7z_early_stops_its_thread(tmp_path):
    path = packed({str(number): b"content" for number in range(3000)}, SEVEN_ZIP, tmp_path / "it.7z")
    before = threading.active_count()
    files = open_files(path)
    stream = files.stream(set(files.names), LIMIT)
    next(stream)
    assert threading.active_count() == before + 1
    files.close()
    assert threading.active_count() == before
    stream.close()


@pytest.mark.whole
def test_a_7z_is_read_as_it_is_needed_not_into_memory(tmp_path):
    tree = {str(number): random.Random(number).randbytes(1000) for number in range(4000)}
    path = packed(tree, SEVEN_ZIP, tmp_path / "it.7z")
    with open(path, "rb") as file:
        files = open_7z("it.7z", file)
        for wanted in (files.names, files.names[500:]):  # members that are passed over do not pile up either
            stream = files.stream(set(wanted), LIMIT)
            for _ in range(len(wanted) - 3000):  # at most 1,000 of 4,000 are past; the queue holds another 1,024
                next(stream)
            assert file.tell() < path.stat().st_size * 0.6
            stream.close()
        files.close()


def test_without_py7zr_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "it.7z"
    path.write_bytes(b"7z\xbc\xaf\x27\x1c")
    monkeypatch.delitem(sys.modules, "fastcifar.data.sources.sevenzip", raising=False)
    monkeypatch.setitem(sys.modules, "py7zr", None)
    with pytest.raises(UsageError, match=r"reading .*it\.7z needs py7zr.*pip install -e '.\[kaggle\]'"):
        open_files(path)
