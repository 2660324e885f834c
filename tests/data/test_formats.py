"""What holds for the FFCV and the DALI form alike."""

import importlib
import importlib.util
import sys

import pytest
from support.formats import needs_dali, needs_ffcv

from fastcifar.data.convert import convert
from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError


@pytest.mark.whole
@needs_ffcv
@needs_dali
def test_other_formats_do_not_change_the_identity(tmp_path):
    plain = convert("synthetic:2100", tmp_path / "plain")  # more than two batches are read back
    full = convert("synthetic:2100", tmp_path / "full", formats=("raw", "ffcv", "dali"))
    assert full.manifest["formats"] == ["raw", "ffcv", "dali"]
    assert full.sha256 == plain.sha256
    names = {"ffcv/train.beton", "ffcv/test.beton", "dali/train.tfrecord", "dali/validation.idx", "dali/test.idx"}
    assert names <= full.manifest["files"].keys()
    assert convert("synthetic:2100", tmp_path / "full", formats=("dali",), overwrite=True).sha256 == plain.sha256
    assert not (tmp_path / "full" / "ffcv").exists()


@pytest.mark.parametrize("name", [pytest.param("ffcv", marks=needs_ffcv), pytest.param("dali", marks=needs_dali)])
def test_a_file_damaged_while_written_is_noticed(tmp_path, monkeypatch, name):
    form = importlib.import_module(f"fastcifar.data.formats.{name}")
    read = form._read

    def damage(path, *rest):
        content = bytearray(path.read_bytes())
        place = content.index(dataset_image)
        content[place + 5] ^= 1
        path.write_bytes(content)
        return read(path, *rest)

    dataset_image = Dataset.open(convert("synthetic:50", tmp_path / "plain").path).images("train")[20].tobytes()
    monkeypatch.setattr(form, "_read", damage)
    with pytest.raises(FastcifarError, match="reads back with image 20 changed"):
        convert("synthetic:50", tmp_path / "out", formats=(name,))
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


@pytest.mark.parametrize(("name", "library"), [("ffcv", "ffcv"), ("dali", "nvidia.dali")])
def test_without_the_library_the_error_says_how_to_get_it(tmp_path, monkeypatch, name, library):
    monkeypatch.delitem(sys.modules, f"fastcifar.data.formats.{name}", raising=False)
    for loaded in [loaded for loaded in sys.modules if loaded == library or loaded.startswith(f"{library}.")]:
        monkeypatch.setitem(sys.modules, loaded, None)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=rf"'{name}' cannot be written.*pip install -e '.\[{name}\]'"):
        convert("synthetic:50", tmp_path / "out", formats=(name,))
    assert not list(tmp_path.iterdir())
