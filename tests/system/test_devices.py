"""Which device --device means; that whatever launches on a device does so while it is the current one; exactness."""

import importlib
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from support.written_runs import spec_of

from fastcifar.cli import app
from fastcifar.errors import UsageError
from fastcifar.grid.messages import Job
from fastcifar.grid.worker import Worker
from fastcifar.recipes import RECIPES
from fastcifar.runs.trained import TrainedRun
from fastcifar.system import devices
from fastcifar.throughput.contestant import Contestant
from fastcifar.throughput.turn import Racer
from fastcifar.training.learner import Learner
from fastcifar.training.steps import Captured
from fastcifar.training.team import Team

CPU, CUDA, SECOND = (torch.device(name) for name in ("cpu", "cuda", "cuda:1"))


def test_devices_are_found_by_name(monkeypatch):
    assert devices.device_named("cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices.device_named("auto") == CPU
    with pytest.raises(UsageError, match="device 'cuda': torch sees 0 CUDA devices; fastcifar doctor"):
        devices.device_named("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.device_named("auto") == CUDA
    assert devices.device_named("cuda:1") == SECOND
    with pytest.raises(UsageError, match="device 'cuda:2': torch sees 2 CUDA devices"):
        devices.device_named("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "", "meta", "CPU", "cuda:x"])
def test_other_devices_are_refused(name):
    with pytest.raises(UsageError, match=f"device '{name}' is not one of auto, cpu, cuda, cuda:N"):
        devices.device_of(name)


class Machine:
    """Two CUDA devices, of which this knows the current one. Nothing can be computed on them."""

    def __init__(self, monkeypatch):
        self.current = 0
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "set_device", self._set)
        monkeypatch.setattr(torch.cuda, "device", self._within)

    def _set(self, device):
        self.current = torch.device(device).index

    @contextmanager
    def _within(self, device):
        before, self.current = self.current, torch.device(device).index
        try:
            yield
        finally:
            self.current = before

    def launched(self, *_, **__):
        """What a fake kernel does, whose tensors are on the second device: it fails while another one is current."""
        assert self.current == 1, f"launched while cuda:{self.current} is current"


@pytest.fixture
def machine(monkeypatch):
    before = torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic, torch.backends.cuda.matmul.allow_tf32
    yield Machine(monkeypatch)
    (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic,
     torch.backends.cuda.matmul.allow_tf32) = before  # fmt: skip


class Kernel:
    """A fake kernel of Triton's: its launches are told."""

    def __init__(self, told):
        self.told = told

    def __getitem__(self, grid):
        return self.told


class Elsewhere:
    """A tensor of n numbers that says it lies on the second CUDA device."""

    def __init__(self, n=4, dtype=torch.float32):
        self.device, self.dtype, self._n = SECOND, dtype, n

    def __len__(self):
        return self._n


@pytest.fixture
def kernels(machine, monkeypatch):
    pytest.importorskip("triton", reason="Triton is not installed")
    gpu = importlib.import_module("fastcifar.kernels.gpu")
    dropout = importlib.import_module("fastcifar.kernels.gpu.dropout")
    nothing = gpu.Tables(*[None] * 6)
    for module, names in ((gpu.pixels, ("augment", "enlarge")), (gpu.numbers, ("write_draws", "write_keys")),
                          (dropout, ("_write_kept",))):  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, Kernel(machine.launched))
    monkeypatch.setattr(gpu, "spec_tables", lambda spec, device: nothing)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, device, **more: empty(*shape, **more))
    monkeypatch.setattr(torch, "empty_like", lambda like: empty(len(like)))
    return gpu, dropout


def test_kernels_are_launched_on_the_device_of_their_tensors(machine, kernels):
    gpu, dropout = kernels
    here = [Elsewhere() for _ in range(7)]
    for spec in (RECIPES["erasing"], RECIPES["imagenet256"]):
        for launch in gpu.CANDIDATES:
            gpu.render(*here[:4], spec, *here[4:], launch=launch)
    gpu._written(here[2], here[3], RECIPES["erasing"], 4)
    gpu.order_keys(here[0], here[1])
    dropout.kept(here[0], here[1], 1, 1.0, 1, 8)
    assert machine.current == 0
    with pytest.raises(AssertionError, match="launched while cuda:0 is current"):
        gpu.pixels.augment[(1,)]()


class Renderer:
    """Makes no pixels, on the second device."""

    def order(self, epoch):
        return torch.arange(8)

    def clock(self, epoch):
        return torch.zeros(3, dtype=torch.int64)

    def empty(self, n):
        return None

    def render(self, order, clock, out):
        pass


class Trainee:
    """Learns nothing, on the second device."""

    spec, device, shape, network = type("Spec", (), {"batch_size": 4}), SECOND, (), None

    def begin(self, steps):
        pass

    def step(self, batch, clock=None, weight=1.0):
        return torch.zeros(())

    def snapshot(self):
        return (), ()

    def restore(self, *_):
        pass


def test_a_graph_is_recorded_on_the_device_of_its_learner(machine, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch, "zeros", lambda *shape, device=None, zeros=torch.zeros, **more: zeros(*shape, **more))

    def record(rehearsal, work):
        machine.launched()
        rehearsal()
        return work

    Captured(Trainee(), Renderer(), record)
    assert machine.current == 0


def test_every_way_to_a_device_makes_it_current(machine, synthetic, tmp_path, monkeypatch):
    assert devices.device_of("cuda:1") == SECOND
    assert machine.current == 1
    machine.current = 0
    assert devices.device_named("cuda:1") == SECOND
    assert machine.current == 0, "asking for its name changes nothing"
    devices.device_of("cuda")
    assert machine.current == 0

    def reached(*_, **__):
        raise Reached

    class Reached(Exception):
        pass

    monkeypatch.setattr("fastcifar.throughput.turn.open_pipeline", reached)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1, 1))
    who = Contestant("resident", "none", 8, "cuda:1", "float32", torch.get_num_threads(), str(synthetic.path))
    with pytest.raises(Reached):
        Racer(who)
    assert machine.current == 1
    machine.current = 0
    worker = Worker(synthetic, tmp_path, "cuda:1")
    assert machine.current == 1
    machine.current = 0  # as in another thread than that which opened it
    worker.train(Job(1, (spec_of(),), 1), lambda event: None)
    assert machine.current == 1
    machine.current = 0
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: False)
    monkeypatch.setattr("torch.distributed.init_process_group", reached)
    with pytest.raises(Reached):
        Team.joined(SECOND)
    assert machine.current == 1
    monkeypatch.delenv("WORLD_SIZE")
    for command, at in (
        (["train", "--exp", "2"], "fastcifar.runs.plan.weights_for"),
        (["grid", "--exp", "2"], "fastcifar.grid.wanted.runs_of"),
        (["predict", str(tmp_path)], "fastcifar.runs.plan.precision_of"),
        (["diagnose", "bn"], "fastcifar.runs.plan.weights_for"),
        (["report", "--runs", str(tmp_path)], "fastcifar.report.build.build_report"),
    ):
        machine.current = 0
        monkeypatch.setattr(at, reached)
        monkeypatch.setattr("fastcifar.runs.directory.require_runs", lambda paths: None)
        amp = ["--amp", "off"] if command[0] == "predict" else []
        with pytest.raises(Reached):
            app.app([*command, *amp, "--data", str(synthetic.path), "--device", "cuda:1"], standalone_mode=False)
        assert machine.current == 1, command


def test_float32_is_float32_and_the_same_each_time_on_cuda(machine, synthetic):
    def said():
        return (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic,
                torch.backends.cuda.matmul.allow_tf32)  # fmt: skip

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.deterministic = False
    devices.device_of("cpu")
    assert said() == (True, False, True), "on a CPU it means nothing, and is left to whoever set it"
    devices.device_of("cuda:1")
    assert said() == (False, True, False)
    with devices.torch_defaults():
        assert said() == (True, False, False)
    assert said() == (False, True, False)


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("training.learner", lambda: Learner.new(None, 10, SECOND)),
        ("runs.trained", lambda: TrainedRun(None, None, {}, 10, 1, None).network(SECOND)),
    ],
)
def test_who_brings_a_device_of_its_own_gets_exact_arithmetic(module, call, machine, monkeypatch):
    class Exact(Exception):
        pass

    def exact(device):
        assert device == SECOND
        raise Exact

    monkeypatch.setattr(f"fastcifar.{module}.exact", exact)
    with pytest.raises(Exact):
        call()


def test_the_plain_loop_computes_as_torch_does_when_nothing_is_set(machine):
    """A contestant that is not ours, in the same process as ours."""
    from bench.rivals.plain import PlainLoop

    seen = []

    class Loader:
        def __iter__(self):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic))
            return iter(())

    loop = object.__new__(PlainLoop)
    loop.model, loop.loader = torch.nn.Identity(), Loader()
    devices.exact(SECOND)
    loop.epoch()
    loop.epoch()
    assert seen == [(True, False)] * 2
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic) == (False, True)


@pytest.mark.gpu
def test_float32_convolutions_on_cuda_are_not_tf32_s():
    devices.device_of("cuda")
    rng = np.random.default_rng(0)
    x, w = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((8, 64, 16, 16), (64, 64, 3, 3)))
    exact = torch.nn.functional.conv2d(x, w)
    there = torch.nn.functional.conv2d(x.float().cuda(), w.float().cuda()).double().cpu()
    assert float((there - exact).norm() / exact.norm()) < 2e-6
