"""Weights from files, from torch's cache and from nowhere: what is read, what is checked, and what is said."""

import hashlib
import io
import pickle
import sys
from copy import deepcopy
from functools import cache
from http.client import RemoteDisconnected
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from fastcifar.errors import FastcifarError, UsageError
from fastcifar.models import published as module
from fastcifar.models.build import build
from fastcifar.models.published import Weights, load, read_weights, weights_of

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(2), "steps": torch.tensor(7)}


def saved(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


# files


@pytest.mark.parametrize(("suffix", "encode"), [("pth", saved), ("pt", saved), ("safetensors", safetensors.torch.save)])
def test_a_file_of_tensors_is_read_and_its_hash_is_its_identity(tmp_path, suffix, encode):
    content = encode(TENSORS)
    weights = read_weights(written(tmp_path / f"mine.{suffix}", content))
    assert weights.identity == hashlib.sha256(content).hexdigest()[:16]
    assert weights.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(weights.tensors[name], TENSORS[name]) for name in TENSORS)
    assert read_weights(written(tmp_path / f"copy.{suffix}", content)).identity == weights.identity
    assert (
        read_weights(written(tmp_path / f"other.{suffix}", encode({"a": torch.ones(1)}))).identity != weights.identity
    )
    assert weights_of("resnet18", str(tmp_path / f"mine.{suffix}")).identity == weights.identity


def test_torch_s_format_of_old_is_read(tmp_path):
    """torchvision's older files have it."""
    file = tmp_path / "old.pth"
    torch.save(TENSORS, file, _use_new_zipfile_serialization=False)
    assert torch.equal(read_weights(file).tensors["a.weight"], TENSORS["a.weight"])


def test_none_is_no_weights():
    assert weights_of("resnet18", "none") == Weights("none", {})


def test_a_hash_in_the_name_is_checked(tmp_path):
    content = saved(TENSORS)
    right = written(tmp_path / f"net-{short_hash(content)}.pth", content)
    assert read_weights(right).identity.startswith(short_hash(content))
    wrong = written(tmp_path / "net-0123abcd.pth", content)
    with pytest.raises(UsageError) as refused:
        read_weights(wrong)
    assert str(refused.value) == (
        f"weights {wrong} have the SHA-256 {hashlib.sha256(content).hexdigest()[:16]}..., but their name says "
        "0123abcd: the file is damaged or another one; delete it and fetch it again, or rename it if that is no hash"
    )
    for no_hash in ("net-small.pth", "net-0123.pth", "net_0123abcd.pth", "net-0123abcd-old.pth"):
        read_weights(written(tmp_path / no_hash, content))


@pytest.mark.parametrize(("name", "reason"), [("missing.pth", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_is_none_is_said(tmp_path, name, reason):
    with pytest.raises(UsageError, match=f"weights {tmp_path / name}: {reason}"):
        weights_of("resnet18", str(tmp_path / name))


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "it went off")


@pytest.mark.parametrize(
    ("content", "how"),
    [
        ({"state_dict": TENSORS, "epoch": 3, "optimizer": {"lr": [0.1]}}, "entry 'state_dict'"),
        ({"model": TENSORS}, "entry 'model'"),
        ({f"module.{name}": value for name, value in TENSORS.items()}, "names without 'module.'"),
        ({f"_orig_mod.{name}": value for name, value in TENSORS.items()}, "names without '_orig_mod.'"),
        (
            {"state_dict": {f"_orig_mod.module.{name}": value for name, value in TENSORS.items()}},
            "entry 'state_dict', names without '_orig_mod.', names without 'module.'",
        ),
        (
            {f"module._orig_mod.{name}": value for name, value in TENSORS.items()},
            "names without '_orig_mod.', names without 'module.'",
        ),
        ({name.replace("a.", "a._orig_mod."): value for name, value in TENSORS.items()}, "names without '_orig_mod.'"),
    ],
)
def test_weights_of_wrapped_modules_and_checkpoints_are_read_and_it_is_said(tmp_path, content, how):
    path = written(tmp_path / "x.pth", saved(content))
    weights = read_weights(path)
    assert weights.note == f"weights {path}: read as {how}"
    assert weights.identity == hashlib.sha256(saved(content)).hexdigest()[:16]
    assert weights.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(weights.tensors[name], TENSORS[name]) for name in TENSORS)


def test_a_module_in_parallel_or_compiled_gives_these_names(tmp_path):
    plain = nn.Sequential(nn.Linear(2, 2))
    parallel, compiled = nn.DataParallel(plain), torch.compile(plain, backend="eager")
    for wrapped in (parallel, compiled, nn.DataParallel(compiled), torch.compile(parallel, backend="eager")):
        weights = read_weights(written(tmp_path / "x.pth", saved(wrapped.state_dict())))
        assert weights.tensors.keys() == plain.state_dict().keys()
        assert weights.note
    assert read_weights(written(tmp_path / "x.pth", saved(plain.state_dict()))).note == ""


def test_an_object_in_a_pickle_is_refused_and_runs_nothing(tmp_path):
    armed = tmp_path / "armed"
    for content in (saved({"a": Bomb(armed)}), saved(Bomb(armed)), pickle.dumps({"a": Bomb(armed)}, 2)):
        with pytest.raises(UsageError, match=r"x.pth hold \S+, and nothing but tensors is read .* state_dict\(\)"):
            read_weights(written(tmp_path / "x.pth", content))
        assert not armed.exists()
    pickle.loads(pickle.dumps(Bomb(armed)))
    assert armed.exists()  # the bomb is one


def test_a_whole_module_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"hold torch\.nn\.modules\.linear\.Linear, and nothing but tensors is read"):
        read_weights(written(tmp_path / "x.pth", saved(nn.Linear(2, 2))))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, world", b"<html>not found</html>", bytes(100)])
def test_what_is_no_file_of_tensors_is_said(tmp_path, suffix, content):
    with pytest.raises(UsageError, match=rf"x.{suffix} are damaged, or no tensors by name \(\w+\); save a module's"):
        read_weights(written(tmp_path / f"x.{suffix}", content))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
@pytest.mark.parametrize(("suffix", "encode"), [("pth", saved), ("safetensors", safetensors.torch.save)])
def test_a_file_cut_short_is_said(tmp_path, suffix, encode, part):
    content = encode(TENSORS)
    with pytest.raises(UsageError, match="are damaged"):
        read_weights(written(tmp_path / f"x.{suffix}", content[: int(part * len(content))]))


@pytest.mark.parametrize("content", [[torch.ones(2)], {"weights": TENSORS, "epoch": 3}, {1: torch.ones(2)}, {},
                                     {"state_dict": {"a": 3}}, {"state_dict": {}}, 5])  # fmt: skip
def test_what_is_not_tensors_by_name_is_refused(tmp_path, content):
    with pytest.raises(UsageError, match=r"x.pth are not tensors by name.*; save a"):
        read_weights(written(tmp_path / "x.pth", saved(content)))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "is of type int"),
        (torch.ones(2).to_sparse(), "is a sparse, quantized or empty tensor"),
        (torch.tensor([1.0, float("nan")]), "has values that are not finite"),
        (torch.ones(1, device="meta"), "is a sparse, quantized or empty tensor"),
    ],
)
def test_an_entry_that_is_no_tensor_of_a_network_is_named(tmp_path, value, reason):
    with pytest.raises(UsageError, match=f"x.pth are not tensors by name: 'b.c' {reason}"):
        read_weights(written(tmp_path / "x.pth", saved({"a": torch.ones(1), "b.c": value})))


def test_a_last_layer_without_a_size_is_left_out_too():
    tensors = torchvisions() | {"classifier.3.weight": torch.tensor(1.0)}
    assert "is left out" in load(deepcopy(small()), Weights("some", tensors))


# into a network


@cache
def small():
    return build("mobilenet_v3_small", 10, 0.0, 0)


def torchvisions(name="mobilenet_v3_small", **more):
    return torchvision.models.get_model(name, **more).state_dict()


def test_a_backbone_is_given_its_weights_and_the_head_keeps_its_own():
    model, tensors = deepcopy(small()), torchvisions(num_classes=7)
    load(model, Weights("some", tensors))
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, tensors[name])
    assert torch.equal(model.head.weight, small().head.weight)
    without_head = {name: value for name, value in tensors.items() if not name.startswith("classifier.3.")}
    load(model, Weights("some", without_head))


def test_the_weights_that_a_run_kept_are_taken_too():
    source, model = build("resnet18", 7, 0.0, seed=3), build("resnet18", 10, 0.0, seed=4)
    head = model.head.weight.detach().clone()
    load(model, Weights("x", source.state_dict()))
    for name, value in source.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value), name
    assert torch.equal(model.head.weight, head)


def test_weights_in_half_precision_are_taken_too():
    model, tensors = deepcopy(small()), torchvisions()
    load(model, Weights("some", {name: value.half() for name, value in tensors.items()}))
    assert model.backbone.state_dict()["features.0.0.weight"].dtype == torch.float32
    torch.testing.assert_close(
        model.backbone.state_dict()["features.0.0.weight"], tensors["features.0.0.weight"], atol=1e-3, rtol=1e-3
    )


def test_counts_of_batches_may_be_missing():
    """Files from before torch 0.4.1 have none."""
    tensors = {name: value for name, value in torchvisions().items() if "num_batches" not in name}
    load(deepcopy(small()), Weights("some", tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("features.1.block.0.0.weight"),
            "'features.1.block.0.0.weight' is missing .in all 1 missing.; they",
        ),
        (lambda t: t.update(foo=torch.ones(1)), r"'foo' is unknown \(in all 1 unknown\); they are of another"),
        (
            lambda t: t.update({"features.0.0.weight": torch.ones(16, 3, 5, 5)}),
            r"'features.0.0.weight' is of another shape, \(16, 3, 5, 5\) in place of \(16, 3, 3, 3\) \(in all 1 of",
        ),
        (
            lambda t: t.update({"features.0.0.weight": torch.ones(16, 3, 3, 3, dtype=torch.int8)}),
            "'features.0.0.weight' is of another dtype, int8 in place of float32",
        ),
        (lambda t: (t.clear(), t.update(torchvisions("resnet18"))), "is missing .*they are of another network"),
        (lambda t: t.clear(), "is missing .*; they are of another network, so choose others with --weights$"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(change, message):
    model, tensors = deepcopy(small()), torchvisions()
    change(tensors)
    with pytest.raises(UsageError, match=f"weights some: the tensor .*{message}"):
        load(model, Weights("some", tensors))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), small().parameters(), strict=True))


def of_old(tensors):
    """As the published files of DenseNet name them."""
    return {
        name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.").replace("conv1.", "conv.1.")
        .replace("conv2.", "conv.2.") if "denselayer" in name else name: value
        for name, value in tensors.items()
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "as_published", "more"),
    [
        ("googlenet", dict, {"init_weights": False}),
        ("inception_v3", dict, {"init_weights": False}),
        ("densenet121", of_old, {}),
        ("mnasnet0_5", dict, {}),  # refuses tensors that do not say their version
    ],
)
def test_networks_whose_published_files_have_other_names(name, as_published, more):
    tensors, model = torchvisions(name, **more), build(name, 10, 0.0, 0)
    load(model, Weights("some", as_published(tensors)))
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, tensors[key])


# the published ones


@pytest.fixture
def hub(tmp_path):
    """torch's cache, empty."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(tmp_path / "hub")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    yield tmp_path / "hub" / "checkpoints"
    torch.hub.set_dir(before)


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), RemoteDisconnected("gone"), RuntimeError("invalid hash value"), OSError(28)]
)
def test_offline_it_is_said_what_is_missing_and_what_to_do(hub, monkeypatch, error):
    def fail(*_, **__):
        raise error

    entry = module.published("resnet18")
    monkeypatch.setattr(type(entry), "get_state_dict", fail)
    with pytest.raises(FastcifarError) as failed:
        weights_of("resnet18", None)
    assert failed.value.exit_code == 1
    for part in (
        "resnet18-f37072fd.pth",
        str(hub),
        entry.url,
        "begins with f37072fd",
        "--weights PATH",
        "--weights none",
    ):
        assert part in str(failed.value)


@pytest.fixture
def resnet18_is(monkeypatch):
    """Have torchvision publish other weights for the network."""

    def publish(url, get_state_dict=None):
        entry = SimpleNamespace(url=url, get_state_dict=get_state_dict)
        monkeypatch.setattr(module, "published", lambda name: {"resnet18": entry}[name])

    return publish


def test_what_is_cached_is_taken(hub, resnet18_is):
    content = saved(TENSORS)
    name = f"resnet18-{short_hash(content)}.pth"
    resnet18_is(f"https://download.pytorch.org/models/{name}")
    written(hub / name, content)
    weights = weights_of("resnet18", None)
    assert weights.identity == read_weights(hub / name).identity
    assert weights.tensors.keys() == TENSORS.keys()


def test_what_is_cached_is_checked(hub, resnet18_is):
    resnet18_is("https://download.pytorch.org/models/resnet18-0123abcd.pth")
    written(hub / "resnet18-0123abcd.pth", saved(TENSORS))
    with pytest.raises(FastcifarError, match="the file is damaged or another one; delete it and fetch it again"):
        weights_of("resnet18", None)


def test_what_is_not_is_downloaded_once_with_its_hash_and_without_unpickling(hub, resnet18_is):
    content = saved(TENSORS)
    name = f"resnet18-{short_hash(content)}.pth"
    asked = []

    def download(**options):
        asked.append(options)
        written(hub / name, content)

    resnet18_is(f"https://download.pytorch.org/models/{name}", download)
    assert weights_of("resnet18", None).identity == weights_of("resnet18", None).identity
    assert asked == [{"progress": False, "check_hash": True, "weights_only": True}]


@pytest.fixture
def timm(monkeypatch):
    """A timm that has one network."""
    fake = ModuleType("timm")
    fake.__spec__, fake.__version__ = ModuleSpec("timm", None), "1.2.3"
    half = (0.5, 0.5, 0.5)
    tiny = SimpleNamespace(input_size=(3, 32, 32), crop_pct=1.0, interpolation="bilinear", mean=half, std=half)
    fake.get_pretrained_cfg = {"tiny": tiny}.get
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(2500, 5))
    fake.create_model = lambda name, pretrained: network
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


def test_timm_s_weights_are_known_by_what_they_are(timm):
    weights = weights_of("timm:tiny", None)
    network = timm.create_model("tiny", True)
    assert weights.tensors.keys() == network.state_dict().keys()
    assert len(weights.identity) == 16
    assert weights_of("timm:tiny", None).identity == weights.identity
    network[1].num_batches_tracked += 1
    assert weights_of("timm:tiny", None).identity != weights.identity
    assert weights_of("timm:tiny", "none") == Weights("none", {})


def test_timm_s_weights_that_cannot_be_had_are_said(timm, monkeypatch):
    def fail(name, pretrained):
        raise OSError("no way to huggingface.co\nand more")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        FastcifarError, match=r"weights of timm:tiny are .* \(no way to huggingface.co\); pass --weights"
    ):
        weights_of("timm:tiny", None)
    with pytest.raises(UsageError, match=r"model 'timm:no' does not exist in timm 1.2.3"):
        weights_of("timm:no", None)


def test_without_timm_it_is_timm_that_is_missing(monkeypatch):
    monkeypatch.setattr("fastcifar.models.pretrained.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"models called timm:NAME need timm: pip install -e '.\[timm\]'"):
        weights_of("timm:tiny", None)
