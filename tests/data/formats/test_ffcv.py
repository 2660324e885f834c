"""The FFCV form: its files are exact, and a full disk is noticed."""

import pytest
import torch
from support.formats import needs_ffcv

from fastcifar.data.convert import convert
from fastcifar.data.dataset import verify
from fastcifar.data.formats.samples import Samples
from fastcifar.errors import FastcifarError


@pytest.mark.whole
@needs_ffcv
def test_ffcv_files_are_exact_and_other_threads_keep_theirs(tmp_path, unlabelled):
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        dataset = convert(unlabelled, tmp_path / "out", formats=("ffcv", "raw", "ffcv"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    from ffcv.reader import Reader

    for part in ("train", "test"):
        samples = Samples(dataset, part)
        path = dataset.path / "ffcv" / f"{part}.beton"
        reader = Reader(str(path))
        assert list(reader.handlers) == ["image", "label", "id"]
        content = path.read_bytes()
        for row, (image, label, number) in enumerate(reader.metadata):
            assert content[image["data_ptr"] :][:3072] == samples[row][0].tobytes()
            assert (image["mode"], image["width"], image["height"]) == (1, 32, 32)
            assert (label, number) == (samples[row][1], row)
        assert (label == -1) == (part == "test")
    assert verify(dataset.path).manifest["tools"]["ffcv"]


@needs_ffcv
def test_a_disk_that_fills_up_under_ffcv_is_noticed(tmp_path, monkeypatch):
    from ffcv.memory_allocator import MemoryAllocator

    enter = MemoryAllocator.__enter__

    def short(self):
        enter(self)
        write = self.fp.write

        class File:
            """FFCV's unbuffered file, as it is on a full disk: it takes a part and says so; FFCV does not listen."""

            def __getattr__(_, name):
                return getattr(self.fp_, name)

            def write(_, content):
                return write(content[:1000])

        self.fp_, self.fp = self.fp, File()

    monkeypatch.setattr(MemoryAllocator, "__enter__", short)
    with pytest.raises(FastcifarError, match=r"disk full while writing .*ffcv/train\.beton"):
        convert("synthetic:50", tmp_path / "out", formats=("ffcv",))
    assert not list(tmp_path.iterdir())
