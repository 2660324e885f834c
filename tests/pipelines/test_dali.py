"""DALI's operators one by one against the reference, and what the contract does not ask of every pipeline."""

import importlib
import json
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from fastcifar.kernels import cpu, reference
from fastcifar.pipelines.dali import DaliPipeline
from support.pretend_cuda import PretendDevice, Stream
from torch.utils.dlpack import from_dlpack

from fastcifar.augment import Augment, draw
from fastcifar.data.dataset import Dataset
from fastcifar.errors import FastcifarError, UsageError
from fastcifar.pipeline import Request, open_pipeline
from fastcifar.recipes import RECIPES
from fastcifar.system import cures

pytest.importorskip("nvidia.dali.fn", reason="DALI is not installed", exc_type=ImportError)
graph = importlib.import_module("fastcifar.pipelines.dali.graph")
operators = importlib.import_module("fastcifar.pipelines.dali.operators")
reading = importlib.import_module("fastcifar.pipelines.dali.reading")

every_form = pytest.mark.parametrize("form", DaliPipeline.forms)
reads_records = pytest.mark.parametrize("form", ["", "stock"])
SAMPLES = 256
COLOURS = [(0, 0, 0), (255, 255, 255), (77, 77, 77), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (9, 200, 9)]


@pytest.fixture(scope="module")
def images():
    """(256, 32, 32, 3) uint8: noise, and images of one colour, whose hue and chroma are at their limits."""
    made = np.random.default_rng(0).integers(0, 256, (SAMPLES, 32, 32, 3), np.uint8)
    made[: len(COLOURS)] = np.array(COLOURS, np.uint8)[:, None, None]
    return made


def deviations(spec, images, dataset, stock=False):
    """|DALI's - reference's| of each value, float32, with draws that any of 256 samples may get."""
    ids = np.arange(SAMPLES)
    request = Request(dataset, augment=spec, batch_size=SAMPLES, seed=5)
    made = operators.Operators(request, stock, threads=1)
    made.begin(ids, iter([{"image": images, "label": ids[:, None], "id": ids[:, None]}]), 3)
    got, _, given = made.batch()
    made.close()
    assert given[:, 0].tolist() == ids.tolist()
    expected = reference.apply(torch.from_numpy(images), draw(spec, 5, 3, ids), spec)
    return (got.permute(0, 3, 1, 2).float() - expected).abs()


@pytest.mark.whole
@pytest.mark.parametrize(
    ("spec", "bound"),
    [
        # (what is drawn, how far any value may be off): measured, and as much again
        (Augment(), 0),
        (Augment(flip=0.5), 0),
        (Augment(erase=1.0), 0),
        (Augment(crop=4, flip=0.5), 0),
        (Augment(crop=31, crop_fill="zeros"), 0),
        (Augment(crop=31), 0),
        (Augment(cutout=7), 0),
        (Augment(cutout=32, erase=0.5, size=(36, 32)), 8e-6),
        # the other three parts are there, too, with what should change nothing
        (Augment(brightness=0.9), 3e-6),
        (Augment(contrast=0.9), 3e-6),
        (Augment(saturation=0.9), 3e-6),
        (Augment(hue=0.5), 2e-6),
        (Augment(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5), 5e-6),
        (Augment(mean=(0.1, 0.2, 0.3), std=(0.1, 1.0, 10.0)), 2e-6),
        (Augment(size=(33, 33)), 5e-6),
        (Augment(size=(64, 64)), 1e-6),
        (Augment(size=(256, 224)), 1e-6),
        (Augment(size=(384, 384)), 5e-6),
        (Augment(size=(36, 32), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2), flip=0.5, erase=0.5), 2e-5),
    ],
    ids=str,
)
def test_each_operator_is_the_references_to_rounding(spec, bound, images, synthetic):
    assert deviations(spec, images, synthetic).max() <= bound


@pytest.mark.parametrize("degrees", [10.0, 180.0])
def test_rotation_may_choose_the_neighbour_of_a_pixel_midway(degrees, images, synthetic):
    apart = deviations(Augment(rotate=degrees), images, synthetic) > 1e-6
    assert apart.float().mean() < 1e-4


@pytest.mark.whole
def test_float16_that_dali_casts_as_on_a_gpu_is_rounded_to_nearest(images):
    spec, ids = Augment(hue=0.5), np.arange(SAMPLES)
    draws = draw(spec, 5, 3, ids)
    fed = {"image": images, "label": ids[:, None], "id": ids[:, None], **graph.arguments(spec, draws)}
    made = graph.build_graph(
        spec, lambda: list(fed.values()), list(fed), half=True, batch_size=SAMPLES, num_threads=1, device_id=None
    )
    got = from_dlpack(made.run()[0].as_tensor())
    assert got.dtype == torch.float16
    expected = reference.apply(torch.from_numpy(images), draws, spec)
    assert (got.permute(0, 3, 1, 2).float() - expected).abs().max() <= 2**-12 + 2e-6


@pytest.mark.whole
def test_stock_leaves_colours_to_dali(images, synthetic):
    grey_level = 1 / 255
    assert deviations(RECIPES["imagenet256"], images, synthetic, stock=True).max() <= 1e-5
    assert (deviations(RECIPES["basic"], images, synthetic, stock=True) > grey_level).float().mean() > 0.5
    with open_pipeline("dali:stock", synthetic, augment=RECIPES["basic"]) as far:
        assert "color_twist" in far.differs
    with open_pipeline("dali:stock", synthetic, augment=RECIPES["none"]) as exact:
        assert exact.exact


@every_form
def test_a_batch_may_be_larger_than_the_split(form, synthetic):
    with DaliPipeline(Request(synthetic, "validation", batch_size=64), form) as pipeline:
        for k in range(3):
            (batch,) = pipeline.epoch(k)
            assert batch.ids.tolist() == synthetic.ids("validation").tolist()
    with DaliPipeline(Request(synthetic, "validation", batch_size=64, drop_last=True), form) as pipeline:
        assert list(pipeline.epoch(0)) == []


@pytest.mark.whole
@every_form
def test_any_number_of_workers_gives_the_same_batches(form, synthetic):
    asked = Request(synthetic, augment=RECIPES["erasing"], batch_size=32, seed=3)
    with DaliPipeline(asked, form, workers=1) as one, DaliPipeline(asked, form, workers=3) as many:
        assert one.build_seconds > 0
        for a, b in zip(one.epoch(0), many.epoch(0), strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.ids, b.ids)
    with pytest.raises(UsageError, match="0 workers"):
        DaliPipeline(asked, form, workers=0)


@pytest.mark.whole
@every_form
def test_epochs_left_early_and_jumped_to_are_as_any_other(form, synthetic):
    asked = Request(synthetic, augment=RECIPES["erasing"], batch_size=16, seed=3)
    with DaliPipeline(asked, form) as whole:
        expected = {k: list(whole.epoch(k)) for k in (2, 3, 7)}
    with DaliPipeline(asked, form) as pipeline:
        for k in (3, 2, 7, 3):
            next(pipeline.epoch(k))
            for got, wanted in zip(pipeline.epoch(k), expected[k], strict=True):
                assert torch.equal(got.images, wanted.images)
                assert torch.equal(got.ids, wanted.ids)


@every_form
def test_beginning_an_epoch_ends_the_one_before(form, synthetic):
    with DaliPipeline(Request(synthetic, batch_size=16), form) as pipeline:
        first = pipeline.epoch(0)
        next(first)
        assert len(list(pipeline.epoch(1))) == 5
        with pytest.raises(UsageError, match="another was begun"):
            next(first)
        second = pipeline.epoch(2)
        next(second)
    with pytest.raises(UsageError, match="closed"):
        next(second)


@every_form
def test_an_error_on_the_way_reaches_the_caller_and_the_pipeline_lives_on(form, synthetic, monkeypatch):
    draws, calls = cpu.draw, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise MemoryError("no room for batch 4")
        return draws(*arguments)

    asked = Request(synthetic, augment=RECIPES["erasing"], batch_size=8)
    with DaliPipeline(asked, form) as pipeline:
        monkeypatch.setattr(cpu, "draw", failing)
        with pytest.raises(MemoryError, match="batch 4"):
            list(pipeline.epoch(0))
        assert len(list(pipeline.epoch(0))) == 10


@reads_records
def test_an_epoch_that_could_not_be_prepared_can_be_asked_for_again(form, synthetic, monkeypatch):
    read, calls = reading.Records.read, []

    def failing(self, order):
        calls.append(order)
        if len(calls) == 2:
            raise FastcifarError("disk full")
        return read(self, order)

    monkeypatch.setattr(reading.Records, "read", failing)
    with DaliPipeline(Request(synthetic, batch_size=16), form) as pipeline:
        assert len(list(pipeline.epoch(0))) == 5
        with pytest.raises(FastcifarError, match="disk full"):
            next(pipeline.epoch(1))
        assert len(list(pipeline.epoch(1))) == 5


def test_the_next_epochs_reader_is_built_ahead(synthetic, monkeypatch):
    with DaliPipeline(Request(synthetic, batch_size=16)) as pipeline:
        for k in range(3):
            assert len(list(pipeline.epoch(k))) == 5
            number, prepared = pipeline._next
            assert number == k + 1
            assert prepared.result()[0].tolist() == pipeline.request.order(k + 1).tolist()


@pytest.fixture
def copied(tmp_path, synthetic):
    """The dataset again, to be damaged."""
    return Dataset.open(shutil.copytree(synthetic.path, tmp_path / "copy"))


def test_records_that_are_cut_off_are_an_error_in_words(copied):
    records = copied.path / "dali/train.tfrecord"
    records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
    with (
        DaliPipeline(Request(copied, batch_size=16)) as pipeline,
        pytest.raises(FastcifarError, match=r"DALI failed: \S"),
    ):
        list(pipeline.epoch(0))


def test_records_other_than_the_index_lists_are_noticed(copied):
    index = copied.path / "dali/train.idx"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[1:] + lines[:1]))
    with DaliPipeline(Request(copied)) as pipeline, pytest.raises(FastcifarError, match="other records than its index"):
        list(pipeline.epoch(0))


def test_a_lost_index_is_named(copied):
    (copied.path / "dali/train.idx").unlink()
    with pytest.raises(FastcifarError, match=r"cannot read .*dali/train\.idx"):
        DaliPipeline(Request(copied))


def test_a_dataset_without_records_is_refused_with_the_cure_but_not_from_memory(synthetic):
    files = {name: entry for name, entry in synthetic.manifest["files"].items() if not name.startswith("dali/")}
    bare = Dataset(synthetic.path, {**synthetic.manifest, "files": files})
    with pytest.raises(UsageError, match=r"no dali/test\.tfrecord.*--formats dali --overwrite"):
        open_pipeline("dali", bare, split="test")
    with open_pipeline("dali:memory", bare, split="test") as pipeline:
        assert len(list(pipeline.epoch(0))) == len(pipeline)
    with pytest.raises(UsageError, match="cpu and cuda, not on mps"):
        open_pipeline("dali:memory", bare, device=torch.device("mps"))


def test_without_dali_the_reason_and_the_cure_are_said(monkeypatch):
    def absent(name):
        raise ImportError("libdali_core.so: cannot open shared object file")

    monkeypatch.setattr("fastcifar.pipelines.dali.import_module", absent)
    assert "libdali_core.so" in str(DaliPipeline.missing(""))
    assert cures.extra("dali") in str(DaliPipeline.missing("memory"))


def test_unlabelled_test_images_have_label_minus_one(synthetic, monkeypatch):
    monkeypatch.setattr(type(synthetic), "labels", lambda self, part: None)
    with DaliPipeline(Request(synthetic, "test"), "memory") as pipeline:
        assert {label for batch in pipeline.epoch(0) for label in batch.labels.tolist()} == {-1}


def anonymous_bytes() -> int:
    """This process's memory that is not a file's."""
    rollup = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Anonymous:")) << 10


@pytest.mark.whole
@every_form
def test_memory_does_not_grow_from_one_pipeline_to_the_next(form, synthetic):
    """Each has batches of 142 MB altogether on the way. DALI keeps some of that for the next, and so does the C library
    once a Learner has told it to, but not ever more.
    """

    def use():
        with DaliPipeline(Request(synthetic, augment=RECIPES["imagenet384"], batch_size=16), form) as pipeline:
            for k in range(2):
                list(pipeline.epoch(k))

    use()
    before = anonymous_bytes()
    for _ in range(5):
        use()
    assert anonymous_bytes() - before < 2 * 142e6


def test_the_index_is_gone_once_it_was_read(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with DaliPipeline(Request(synthetic)) as pipeline:
        list(pipeline.epoch(0))
        pipeline._next[1].result()
        assert list(tmp_path.iterdir()) == []


def test_the_manifest_names_what_is_read(synthetic):
    names = json.loads((synthetic.path / "manifest.json").read_text())["files"]
    assert {"dali/train.tfrecord", "dali/train.idx", "dali/test.tfrecord", "dali/test.idx"} <= names.keys()


class PretendDali:
    """A DALI pipeline on a pretended device, fed by the true source, two batches ahead. Its outputs are the CPU's
    memory under DLPack's name of a GPU; "its kernels" write them when the stream that was given comes to it.
    """

    def __init__(self, gpu, source):
        self.gpu, self.source = gpu, source
        self.ahead = []
        self.given = []
        """the stream that each run was given, and that torch named when it took an output"""

    def run(self, stream=None):
        with suppress(StopIteration):
            while len(self.ahead) < 2:
                self.ahead.append(self.source())
        if not self.ahead:
            raise StopIteration
        image, label, id_, *_ = self.ahead.pop(0)
        self.given.append(stream)
        if stream is None:
            self.gpu.waits.append("DALI")
        return [self.Output(self, values, stream) for values in (image.astype(np.float32), label, id_)]

    def reset(self):
        pass

    class Output:
        def __init__(self, dali, values, stream):
            self.dali, self.memory = dali, torch.full_like(torch.from_numpy(values), -1)
            if stream is not None:
                stream.queue.append(lambda: self.memory.copy_(torch.from_numpy(values)))

        def as_tensor(self):
            return self

        def __dlpack_device__(self):
            return torch.utils.dlpack.DLDeviceType.kDLCUDA, 0

        def __dlpack__(self, *, stream, **_):
            self.dali.given.append(stream)
            return torch.utils.dlpack.to_dlpack(self.memory)


@pytest.fixture
def pretended(monkeypatch):
    """The device, and the pipelines that DALI was asked to build for it."""
    gpu, built = PretendDevice().installed(monkeypatch), []

    def build(spec, source, names, **options):
        assert options["device_id"] == 0
        built.append(PretendDali(gpu, source))
        return built[-1]

    monkeypatch.setattr(operators, "build_graph", build)
    return gpu, built


@every_form
def test_dali_runs_on_the_stream_of_the_caller_who_waits_for_nothing(form, synthetic, pretended):
    gpu, built = pretended
    aside, seen, labels = Stream(gpu), [], synthetic.labels("train")
    with DaliPipeline(Request(synthetic, batch_size=32, device=gpu.device), form) as pipeline, gpu.on(aside):
        for batch in pipeline.epoch(0):
            gpu.read(batch, seen)
    assert gpu.waits == []
    assert [dali.given for dali in built] == [3 * [aside, *3 * [aside.cuda_stream]]]
    assert seen == []
    aside.run()
    assert [len(ids) for _, _, ids in seen] == [32, 32, 16]
    for images, got, ids in seen:
        assert images.permute(0, 2, 3, 1).tolist() == synthetic.images("train")[ids.numpy()].tolist()
        assert got.tolist() == labels[ids.numpy()].tolist()
    assert gpu.copied_on == []  # DALI copies all that the device needs


def test_an_epoch_on_a_device_that_is_left_early_is_finished_before_the_next(synthetic, pretended):
    gpu, built = pretended
    with DaliPipeline(Request(synthetic, batch_size=16, device=gpu.device)) as pipeline:
        for k in range(3):
            assert next(pipeline.epoch(k)).ids.device.type == "cpu"  # as pretended
            assert gpu.waits == (k + 1) * ["DALI"]  # for the one batch that it had been fed already
        assert [len(dali.ahead) for dali in built] == [0]


@pytest.mark.parametrize("device", [None, 0])
def test_all_of_a_batch_comes_out_where_the_operators_run(device, monkeypatch):
    outputs = []
    monkeypatch.setattr(graph.Pipeline, "set_outputs", lambda _, *nodes: outputs.extend(nodes))
    monkeypatch.setattr(graph.Pipeline, "build", lambda _: None)  # it would look for the GPU
    spec = RECIPES["erasing"]
    names = ["image", "label", "id", *graph.arguments(spec, draw(spec, 0, 0, np.arange(2)))]
    graph.build_graph(spec, lambda: [], names, batch_size=2, num_threads=1, device_id=device)
    assert [node.device for node in outputs] == 3 * ["cpu" if device is None else "gpu"]


@pytest.mark.gpu
@every_form
@pytest.mark.parametrize(
    ("recipe", "dtype"), [("none", torch.float32), ("erasing", torch.bfloat16), ("imagenet256", torch.float16)]
)
def test_on_a_device_every_batch_is_as_on_the_cpu(recipe, dtype, form, synthetic):
    """While the device is busy, so that no batch is there when it is asked for."""
    asked = {"augment": RECIPES[recipe], "batch_size": 32, "seed": 9, "dtype": dtype}
    with (
        DaliPipeline(Request(synthetic, **asked), form) as here,
        DaliPipeline(Request(synthetic, device=torch.device("cuda"), **asked), form) as there,
    ):
        for k in range(2):
            torch.cuda._sleep(50_000_000)
            seen = [[part.clone() for part in batch] for batch in there.epoch(k)]
            assert {part.device.type for parts in seen for part in parts} == {"cuda"}
            for (images, *numbers), batch in zip(seen, here.epoch(k), strict=True):
                assert [part.tolist() for part in numbers] == [batch.labels.tolist(), batch.ids.tolist()]
                bound = 2e-5 + torch.finfo(dtype).eps * batch.images.float().abs()
                off = (images.cpu().float() - batch.images.float()).abs() > bound
                assert off.float().mean() <= 1e-4  # rotation may choose a neighbour
