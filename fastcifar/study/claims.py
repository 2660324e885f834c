"""What the report claims, each with the rule by which our runs confirm it or do not."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from statistics import mean, median

from fastcifar.outcome import Lines
from fastcifar.study.collection import Collection, Configuration, Run
from fastcifar.study.statistics import of_mean, paired

CONFIRMED, REFUTED, NOT_RUN = "confirmed", "not confirmed", "not run"
ABOUT = 0.02  # the report reads its accuracies off curves and calls 1 to 2 points no matter
CHANCE = 0.12  # of ten classes; the best of many epochs of guessing is a little above a tenth
OVERFIT = 1.10  # times the lowest validation loss, at the end of a run
TOGETHER = 0.15  # share of the training loss by which the validation loss may exceed it
RESTLESS = 3.0  # times as large a step of the validation loss from epoch to epoch, as another network's


@dataclass(frozen=True)
class Verdict:
    """Of a claim under a protocol."""

    verdict: str
    measured: str
    runs: tuple[str, ...] = ()
    """run-ids that it rests on"""


@dataclass(frozen=True)
class Claim:
    """One of the report's. said: in our words; rule: what confirms it, in words; judge: the rule."""

    id: str
    experiment: int
    said: str
    rule: str
    judge: Callable[[Collection, str], Verdict] = field(repr=False)


def verdicts(collection: Collection) -> list[tuple[Claim, dict[str, Verdict]]]:
    """Every claim with a verdict by protocol, of the protocols that any run is of."""
    return [(claim, {name: claim.judge(collection, name) for name in collection.protocols}) for claim in CLAIMS]


# rules


def about(percent: float, **where: object) -> Callable[[Collection, str], Verdict]:
    def judge(collection: Collection, protocol: str) -> Verdict:
        found = _one(collection, protocol, where)
        if not found:
            return _not_run(where)
        interval = of_mean(_known(found))
        half = 0.0 if interval.high is None else interval.high - interval.mean
        fits = abs(interval.mean - percent / 100) <= ABOUT + half
        spread = f" ± {100 * half:.2f} (95 %, {interval.n} seeds)" if half else " (one seed)"
        return Verdict(_said(fits), f"{100 * interval.mean:.2f} %{spread}", _ids(found))

    return judge


def better(more: dict[str, object], less: dict[str, object]) -> Callable[[Collection, str], Verdict]:
    def judge(collection: Collection, protocol: str) -> Verdict:
        a, b = _one(collection, protocol, more), _one(collection, protocol, less)
        if not a or not b:
            return _not_run(less if a else more)
        difference = paired(a, b)
        if difference is None or difference.low is None:
            return Verdict(NOT_RUN, "fewer than two seeds in common", _ids(a, b))
        why = "" if difference.above or difference.below else "; 0 is within"
        return Verdict(_said(difference.above), f"{difference.points()} points ({difference.how}){why}", _ids(a, b))

    return judge


def every(*parts: Callable[[Collection, str], Verdict]) -> Callable[[Collection, str], Verdict]:
    """Confirmed where all parts are; not confirmed where any is not."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = [part(collection, protocol) for part in parts]
        kinds = {verdict.verdict for verdict in found}
        verdict = REFUTED if REFUTED in kinds else NOT_RUN if NOT_RUN in kinds else CONFIRMED
        runs = tuple(dict.fromkeys(run for part in found for run in part.runs))
        return Verdict(verdict, "; ".join(part.measured for part in found), runs)

    return judge


def no_progress(**where: object) -> Callable[[Collection, str], Verdict]:
    def judge(collection: Collection, protocol: str) -> Verdict:
        found = collection.find(protocol=protocol, **where)
        if not found:
            return _not_run(where)
        best = max((accuracy or 0.0) for each in found for accuracy in each.accuracies)
        return Verdict(_said(best <= CHANCE), f"the best of all seeds is {100 * best:.2f} %", _ids(*found))

    return judge


def overfits(wanted: bool, **where: object) -> Callable[[Collection, str], Verdict]:
    """Whether the validation loss ends well above its lowest value while the training loss falls on."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = _one(collection, protocol, where)
        if not found:
            return _not_run(where)
        ratios = [_rise(run.lines) for run in found.runs.values()]
        rises = mean(ratios) >= OVERFIT
        measured = f"validation loss ends at {mean(ratios):.2f} times its lowest (mean of {len(ratios)} seeds)"
        return Verdict(_said(rises == wanted), measured, _ids(found))

    return judge


def together(**where: object) -> Callable[[Collection, str], Verdict]:
    """Whether validation loss stays near training loss in the kept epoch."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = _one(collection, protocol, where)
        if not found:
            return _not_run(where)
        gaps = [gap for gap in map(_gap, found.runs.values()) if gap is not None]
        if not gaps:
            return Verdict(REFUTED, "every seed diverged", _ids(found))
        measured = f"validation loss is {100 * mean(gaps):+.1f} % of the training loss away, at the kept epoch"
        return Verdict(_said(mean(gaps) <= TOGETHER), measured, _ids(found))

    return judge


def unstable(one: dict[str, object], others: list[dict[str, object]]) -> Callable[[Collection, str], Verdict]:
    """Whether one's validation loss moves more from epoch to epoch than every other's."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = _one(collection, protocol, one)
        rest = [each for each in (_one(collection, protocol, where) for where in others) if each]
        if not found or not rest:
            return _not_run(one if not found else others[0])
        own, most = _restlessness(found), max(_restlessness(each) for each in rest)
        measured = f"a step of its validation loss is {own:.3f} in the median; elsewhere at most {most:.3f}"
        return Verdict(_said(own >= RESTLESS * most), measured, _ids(found, *rest))

    return judge


def alike(**where: object) -> Callable[[Collection, str], Verdict]:
    """Whether no two configurations' accuracies are surely more than ABOUT apart."""

    def judge(collection: Collection, protocol: str) -> Verdict:
        found = [each for each in collection.find(protocol=protocol, **where) if _known(each)]
        if len(found) < 2:
            return _not_run(where)
        means = {each.label: mean(_known(each)) for each in found}
        apart = []
        for a, b in combinations(found, 2):
            difference = paired(a, b)
            if difference is not None and difference.low is not None and difference.high is not None:
                apart.append(max(difference.low, -difference.high))
        if not apart:
            return Verdict(NOT_RUN, "fewer than two seeds in common", _ids(*found))
        low, high = min(means.values()), max(means.values())
        measured = f"{len(found)} configurations, means from {100 * low:.2f} to {100 * high:.2f} %"
        return Verdict(_said(max(apart) <= ABOUT), measured, _ids(*found))

    return judge


def elsewhere(reason: str) -> Callable[[Collection, str], Verdict]:
    """For what run directories cannot show."""
    return lambda collection, protocol: Verdict(NOT_RUN, reason)


# what they are made of


def _one(collection: Collection, protocol: str, where: dict[str, object]) -> Configuration | None:
    """The configuration that has the fields, where any of its seeds has an accuracy or a loss to show."""
    found = collection.find(protocol=protocol, **where)
    return next((each for each in found if _known(each)), None)


def _known(configuration: Configuration) -> list[float]:
    return [accuracy for accuracy in configuration.accuracies if accuracy is not None]


def _not_run(where: dict[str, object]) -> Verdict:
    return Verdict(NOT_RUN, "no finished run of " + ", ".join(f"{key} {value}" for key, value in where.items()))


def _said(confirmed: bool) -> str:
    return CONFIRMED if confirmed else REFUTED


def _ids(*configurations: Configuration) -> tuple[str, ...]:
    return tuple(run.run_id for each in configurations for run in each.runs.values())


def _finite(lines: Lines, key: str) -> list[float]:
    return [line[key] for line in lines if line[key] is not None]


def _rise(lines: Lines) -> float:
    """The last validation loss over the lowest one; infinite where there is none any more."""
    losses = _finite(lines, "val_loss")
    return losses[-1] / min(losses) if losses and lines[-1]["val_loss"] is not None else float("inf")


def _gap(run: Run) -> float | None:
    kept = run.row["kept_epoch"]
    if kept is None:
        return None
    line = run.lines[kept - 1]
    return float(line["val_loss"] / line["train_loss"] - 1)


def _restlessness(configuration: Configuration) -> float:
    """Over the seeds, the mean of the median change of the validation loss between epochs, relative to the loss."""
    found = []
    for run in configuration.runs.values():
        losses = _finite(run.lines, "val_loss")
        steps = [abs(b - a) / a for a, b in pairwise(losses) if a]
        found.append(median(steps) if steps else 0.0)
    return mean(found)


# the claims


def _cnn(**fields: object) -> dict[str, object]:
    return {"experiment": 2, "batch_size": 128, "lr": 1e-3, "l2": 0.0, "dropout": 0.0, "recipe": "none"} | fields


DROPOUT = _cnn(dropout=0.5)
VIT = {"experiment": 3, "l2": 0.0, "dropout": 0.0, "recipe": "none"}


def _tuned(model: str) -> dict[str, object]:
    return {"experiment": 4, "model": model}


NETWORKS = {"mobilenet_v3_small": 87, "resnet18": 77, "efficientnet_v2_s": 73}
NEAR = "the mean over seeds is within 2 points of it, or its 95 % interval reaches there"
SURE = "the 95 % interval of the paired difference is above 0"
KAGGLE = "Kaggle's test labels are not public: fastcifar predict writes the CSV that Kaggle scores"

CLAIMS: Sequence[Claim] = (
    Claim("mlp-s", 1, "The small MLP reaches about 40 %.", NEAR, about(40, experiment=1, model="mlp_s")),
    Claim(
        "mlp-s-losses", 1, "The small MLP's training and validation loss stay together.",
        "at the kept epoch the validation loss exceeds the training loss by at most 15 %",
        together(experiment=1, model="mlp_s"),
    ),
    Claim(
        "mlp-l", 1, "The large MLP makes no progress at all.", "no seed exceeds 12 %, chance being 10 %",
        no_progress(experiment=1, model="mlp_l"),
    ),
    Claim(
        "cnn-unstable", 2, "Batch 64 with learning rate 0.01 hardly learns; batch 128 does better.", SURE,
        better(_cnn(lr=1e-2), _cnn(lr=1e-2, batch_size=64)),
    ),
    Claim(
        "cnn-overfit", 2, "At learning rate 0.001 the CNN overfits, with a U-shaped validation loss.",
        "the validation loss ends at 1.1 times its lowest or more", overfits(True, **_cnn()),
    ),
    Claim(
        "cnn-slow", 2, "At learning rate 0.0001 it hardly overfits.",
        "the validation loss ends below 1.1 times its lowest", overfits(False, **_cnn(lr=1e-4)),
    ),
    Claim("cnn-plain", 2, "Without regularisation it reaches about 63 %.", NEAR, about(63, **_cnn())),
    Claim(
        "cnn-dropout", 2, "Dropout of 0.5 helps, to about 67 %.", f"{SURE}, and {NEAR}",
        every(better(DROPOUT, _cnn()), about(67, **DROPOUT)),
    ),
    Claim(
        "cnn-l2", 2, "With L2 of 0.01 the loss cannot be decreased.", "no seed exceeds 12 %, chance being 10 %",
        no_progress(**_cnn(l2=0.01)),
    ),
    Claim(
        "cnn-basic", 2, "Basic augmentation helps, to about 71 %.", f"{SURE}, and {NEAR}",
        every(better(DROPOUT | {"recipe": "basic"}, DROPOUT), about(71, **DROPOUT | {"recipe": "basic"})),
    ),
    Claim(
        "cnn-erasing", 2, "Random erasing on top harms.", SURE,
        better(DROPOUT | {"recipe": "basic"}, DROPOUT | {"recipe": "erasing"}),
    ),
    Claim(
        "cnn-erasing-65", 2, "Random erasing on top ends at about 65 %.", NEAR,
        about(65, **DROPOUT | {"recipe": "erasing"}),
    ),
    Claim("vit", 3, "The small ViT reaches about 51 %.", NEAR, about(51, **VIT, batch_size=128, lr=1e-3)),
    Claim(
        "vit-alike", 3, "Batch size and learning rate make no difference to the ViT.",
        "no two configurations are surely (95 %) more than 2 points apart", alike(**VIT),
    ),
    *(
        Claim(f"tuned-{model}", 4, f"{model} reaches about {percent} %.", NEAR, about(percent, **_tuned(model)))
        for model, percent in NETWORKS.items()
    ),
    Claim(
        "tuned-order", 4, "The smallest network is the best and EfficientNetV2-S the worst of the three.", SURE,
        every(
            better(_tuned("mobilenet_v3_small"), _tuned("resnet18")),
            better(_tuned("resnet18"), _tuned("efficientnet_v2_s")),
        ),
    ),
    Claim(
        "resnet-restless", 4, "ResNet18's validation loss is unstable, unlike the others'.",
        "its median relative step between epochs is three times the others' or more",
        unstable(_tuned("resnet18"), [_tuned(model) for model in NETWORKS if model != "resnet18"]),
    ),
    *(
        Claim(
            f"kaggle-{number}", number, f"On Kaggle's test images: {percent} %.", "a score by Kaggle", elsewhere(KAGGLE)
        )
        for number, percent in ((1, 42.42), (2, 72.52), (3, 54.08), (4, 83.16))
    ),
)  # fmt: skip
"""In the report's order."""
