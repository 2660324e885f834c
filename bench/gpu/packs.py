"""Train many runs at once on a device, in each way to train a pack."""

from bench.gpu.device_profile import profiled
from bench.gpu.loops import PROFILED, REPEATS, peak, spec_of
from bench.gpu.notes import Notes
from bench.lib import rows
from fastcifar.packs.names import SIDE_BY_SIDE
from fastcifar.packs.trial import Trial, trial_of
from fastcifar.packs.ways import possible
from fastcifar.runs.spec import RunSpec
from fastcifar.system.measure import Clock, alternate

RUNS = 24  # runs of a pack
NETWORKS = {"cnn": 2, "vit": 3, "mlp_s": 1}  # with their experiments, most valuable first
TURN_SECONDS, MOST_STEPS = 0.4, 200  # of a turn: approximate seconds; most steps, of an epoch's 312


def packs(notes: Notes) -> None:
    """Write a row and a profile for each network and each way to train RUNS runs at once."""
    runs = 2 if notes.tiny else RUNS
    with notes.images(50_000) as dataset:
        for model, number in NETWORKS.items():
            spec = spec_of(number, dataset, notes.tiny, model=model)
            for way in possible(spec, notes.device):
                with notes.trying("pack", _about(spec, way, runs)):
                    notes.release()
                    with Clock(str(notes.device)) as opening:
                        trial = trial_of(way, spec, dataset, notes.device, runs)
                    with trial:
                        _pack(notes, spec, way, runs, trial, opening.seconds)
                    del trial


def _about(spec: RunSpec, way: str, runs: int) -> str:
    return f"{spec.model} {way}, {runs} runs"


def _pack(notes: Notes, spec: RunSpec, way: str, runs: int, trial: Trial, opening: float) -> None:
    about = _about(spec, way, runs)
    with Clock(str(notes.device)) as short:
        trial.train(2)
    with Clock(str(notes.device)) as longer:
        trial.train(2 if notes.tiny else 12)
    one = max(longer.seconds - short.seconds, 1e-6) / 10  # without the beginning of an epoch
    steps = 1 if notes.tiny else max(1, min(MOST_STEPS, round(TURN_SECONDS / one)))
    images = trial.train(steps)
    timing = alternate({way: lambda: trial.train(steps)}, 1 if notes.tiny else REPEATS, device=str(notes.device))[way]
    speed = rows.rates(timing, images)
    says = f"{about}: {speed['images_per_s']:,.0f} images/s together, {1e6 * timing.median / steps:,.0f} us a step"
    notes.row(
        "pack", says, model=spec.model, way=way, runs=runs, dtype=spec.precision, batch_size=spec.batch_size,
        recipe=spec.recipe, steps=steps, step_seconds=timing.median / steps, opening_seconds=opening,
        peak_device_bytes=peak(notes.device), **speed,
    )  # fmt: skip
    if way != SIDE_BY_SIDE:  # it runs on the CPU only, in threads that the profiler does not see
        profiled(notes, about, trial.train, 1 if notes.tiny else PROFILED)
