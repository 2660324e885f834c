"""Profile training steps with torch's profiler: the kernels with the most time on the device."""

from collections.abc import Callable
from typing import Any

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from bench.gpu.notes import Notes
from fastcifar.system.measure import Clock

TOP = 25
NAME = 160  # characters kept of a kernel's name: template arguments can make it thousands long


def profiled(notes: Notes, title: str, train: Callable[[int], object], steps: int) -> None:
    """Profile ``steps`` steps, and write a row and a table. On the CPU, operations take the place of kernels.

    The profiler slows the host down. The device's times are right, but the device's real share of busy time is higher.
    """
    train(1)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if notes.cuda else [])]
    with profile(activities=activities) as caught, Clock(str(notes.device)) as clock:
        train(steps)
    top, total = kernels(caught, notes.cuda)
    a_step, wall = total / steps, 1e6 * clock.seconds / steps
    lines = [f"{'calls':>8} {'us':>12} {'us a step':>10} {'share':>6}  name"]
    lines += [
        f"{one['calls']:8} {one['us']:12,.0f} {one['us'] / steps:10,.1f} {one['us'] / total:6.1%}  {one['name']}"
        for one in top
    ]
    says = f"{title}: {steps} steps profiled, {a_step:,.0f} us a step on the device of {wall:,.0f} in all"
    lines.insert(0, f"{says}; the top {len(top)} by time")
    notes.profile(title, "\n".join(lines))
    notes.row(
        "profile", says, title=title, steps=steps, device_us_a_step=a_step, wall_us_a_step=wall,
        top=[{"us_a_step": one["us"] / steps, "calls": one["calls"], "name": one["name"]} for one in top],
    )  # fmt: skip


def kernels(caught: Any, cuda: bool) -> tuple[list[dict[str, Any]], float]:
    """Return the top kernels, including copies and fills, and the microseconds of all kernels. On the CPU: operations,
    each without its children. Raises RuntimeError where nothing ran on the device.
    """
    where = DeviceType.CUDA if cuda else DeviceType.CPU

    def counts(event: Any) -> bool:
        # user annotations are time ranges that contain kernels, so they would count twice
        named = cuda and getattr(event, "is_user_annotation", False)
        return event.device_type == where and taken(event) > 0 and not named

    def taken(event: Any) -> float:
        return float(event.self_device_time_total if cuda else event.self_cpu_time_total)

    timed = [
        {"name": str(event.key)[:NAME], "calls": event.count, "us": taken(event)}
        for event in caught.key_averages()
        if counts(event)
    ]
    timed.sort(key=lambda one: -one["us"])
    if not timed:
        raise RuntimeError("the profiler saw nothing run on the device")
    return timed[:TOP], sum(one["us"] for one in timed)
