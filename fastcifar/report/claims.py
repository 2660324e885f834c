"""The claims of the report, each with the rule that decides whether our runs confirm it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fastcifar.experiments import experiment
from fastcifar.report.collection import Collection
from fastcifar.report.rules import (
    Rule,
    about,
    about_on_test,
    better,
    calmer,
    elsewhere,
    every,
    no_progress,
    none_apart,
    overfits,
    rising,
    seeds_matter,
    together,
    unstable,
)
from fastcifar.report.verdict import VERDICTS, Verdict, holm


@dataclass(frozen=True)
class Claim:
    """A claim of the report. said: its text, in our words; rule: what confirms it, in words; judge: the rule."""

    id: str
    experiment: int
    said: str
    rule: str
    judge: Rule = field(repr=False)

    def points(self, protocol: str) -> list[dict[str, Any]]:
        """Return the configurations of the experiments' grids that the verdict under a protocol rests on, each once.

        They are fields of RunSpec. Empty where the grid has no configuration for a part of the claim, or where no
        certain run decides.
        """
        points: list[dict[str, Any]] = []
        for where in self.judge.needs:
            number = int(str(where["experiment"]))
            every = ({"experiment": number, **point} for point in experiment(number, protocol).configurations())
            found = [point for point in every if all(point.get(key) == value for key, value in where.items())]
            if not found:
                return []
            points += [point for point in found if point not in points]
        return points


Judged = list[tuple[Claim, dict[str, Verdict]]]
"""Claims, each with its verdicts by protocol."""


def verdicts(counting: Collection, protocols: Sequence[str], claims: Sequence[Claim] = ()) -> Judged:
    """Judge claims under each of the protocols. counting: the runs that may judge. claims: by default CLAIMS."""
    return [(claim, {name: claim.judge(counting, name) for name in protocols}) for claim in claims or CLAIMS]


def claims_on_test(unlike: str | None = None) -> Sequence[Claim]:
    """Return CLAIMS, with those on Kaggle's test images judged on the dataset's own test images.

    unlike: why these images judge none of them.
    """

    def on_test(claim: Claim) -> Claim:
        percent, where = SCORES[claim.experiment]
        rule = about_on_test(percent, **where)
        if unlike:
            rule = elsewhere(f"the dataset's own test images judge nothing: {unlike}")
        said = f"{claim.said.rstrip('.')}; judged here on the dataset's own test images, not Kaggle's."
        return replace(claim, said=said, rule=ON_TEST, judge=rule)

    return [on_test(claim) if claim.rule == BY_KAGGLE else claim for claim in CLAIMS]


def counted_verdicts(judged: Judged) -> dict[str, int]:
    """Count the claims with each verdict, in the order of VERDICTS. A claim counts once for each protocol."""
    counts = Counter(verdict.verdict for _, by_protocol in judged for verdict in by_protocol.values())
    return {kind: counts[kind] for kind in VERDICTS if counts[kind]}


def surviving(judged: Judged) -> dict[tuple[str, str], bool]:
    """Return by (claim id, protocol), for each verdict with a p-value, whether it holds for the page as a whole: with a
    chance of 5 % at most that any of these verdicts is a false alarm (Holm).
    """
    values = {
        (claim.id, protocol): verdict.p
        for claim, by_protocol in judged
        for protocol, verdict in by_protocol.items()
        if verdict.p is not None
    }
    return dict(zip(values, holm(list(values.values())), strict=True))


def _cnn(**fields: object) -> dict[str, object]:
    return {"experiment": 2, "batch_size": 128, "lr": 1e-3, "l2": 0.0, "dropout": 0.0, "recipe": "none"} | fields


DROPOUT = _cnn(dropout=0.5)
VIT = {"experiment": 3, "l2": 0.0, "dropout": 0.0, "recipe": "none"}


def _tuned(model: str) -> dict[str, object]:
    return {"experiment": 4, "model": model}


NETWORKS = {"mobilenet_v3_small": 87, "resnet18": 77, "efficientnet_v2_s": 73}
NEAR = "the whole 95 % interval is within 2 points of it, as the report reads its values off curves"
SURE = "the whole 95 % interval of the paired difference is above 0"
EACH = "for each of at least 3 seeds"
CLOSE = f"at the kept epoch the validation loss exceeds the training loss by at most 15 %, {EACH}"
STAYS = f"it stays at 12 % or less, {EACH}; chance is 10 %"
CALM = f"the validation loss rises less above its lowest value than without dropout, {EACH}"
ALIKE = "the 95 % intervals of all differences are within 2 points, which the report treats as no difference"
KAGGLE = "Kaggle's test labels are not public: fastcifar predict writes the CSV that Kaggle scores"
BY_KAGGLE = "a score by Kaggle"
ON_TEST = (
    "the whole 95 % interval over seeds and images, of the configuration that is best in the report's figures, is "
    "within 2 points of it, which the report treats as no difference"
)
SCORES: Mapping[int, tuple[float, dict[str, object]]] = {
    1: (42.42, {"experiment": 1, "model": "mlp_s"}),
    2: (72.52, DROPOUT | {"recipe": "basic"}),
    3: (54.08, VIT | {"batch_size": 128, "lr": 1e-3}),
    4: (83.16, _tuned("mobilenet_v3_small")),
}
"""Kaggle's scores in percent by experiment, with the configuration that is the best in the report's figures. The report
says only that they are of each experiment's best model. Its ViTs are all alike: as elsewhere, the one of batch 128 and
learning rate 0.001 is taken."""

CLAIMS: Sequence[Claim] = (
    Claim("mlp-s", 1, "The small MLP reaches about 40 %.", NEAR, about(40, experiment=1, model="mlp_s")),
    Claim(
        "mlp-s-losses", 1, "The small MLP's training and validation loss stay together.",
        CLOSE,
        together(experiment=1, model="mlp_s"),
    ),
    Claim(
        "mlp-l", 1, "The large MLP makes no progress at all.", STAYS,
        no_progress(experiment=1, model="mlp_l"),
    ),
    Claim(
        "cnn-unstable", 2, "Batch 64 with learning rate 0.01 hardly learns; batch 128 does better.", SURE,
        better(_cnn(lr=1e-2), _cnn(lr=1e-2, batch_size=64)),
    ),
    Claim(
        "cnn-overfit", 2, "At learning rate 0.001 the CNN overfits, with a U-shaped validation loss.",
        f"the validation loss ends at 1.1 times its lowest or more, {EACH}", overfits(True, **_cnn()),
    ),
    Claim(
        "cnn-slow", 2, "At learning rate 0.0001 it hardly overfits.",
        f"the validation loss ends below 1.1 times its lowest, {EACH}", overfits(False, **_cnn(lr=1e-4)),
    ),
    Claim(
        "cnn-fast", 2, "At batch 128 and learning rate 0.01 both losses fall close together.",
        CLOSE, together(**_cnn(lr=1e-2)),
    ),
    Claim("cnn-plain", 2, "Without regularisation it reaches about 63 %.", NEAR, about(63, **_cnn())),
    Claim(
        "cnn-dropout", 2, "Dropout of 0.5 helps, to about 67 %.", f"{SURE}, and {NEAR}",
        every(better(DROPOUT, _cnn()), about(67, **DROPOUT)),
    ),
    Claim(
        "cnn-dropout-calms", 2, "Dropout also mitigates overfitting.",
        CALM, calmer(DROPOUT, _cnn()),
    ),
    Claim(
        "cnn-l2", 2, "With L2 of 0.01 the loss cannot be decreased.", STAYS,
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
    Claim(
        "cnn-harder", 2, "The more augmentation, the higher the training loss.",
        f"the training loss of the last epoch is larger with each step of augmentation, {EACH}",
        rising("train_loss", DROPOUT, DROPOUT | {"recipe": "basic"}, DROPOUT | {"recipe": "erasing"}),
    ),
    Claim("vit", 3, "The small ViT reaches about 51 %.", NEAR, about(51, **VIT, batch_size=128, lr=1e-3)),
    Claim(
        "vit-alike", 3, "Batch size and learning rate make no difference to the ViT.",
        ALIKE, none_apart(**VIT),
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
        f"its median relative step between epochs is three times the others' or more, {EACH}",
        unstable(_tuned("resnet18"), [_tuned(model) for model in NETWORKS if model != "resnet18"]),
    ),
    Claim(
        "seeds", 2, "Seeds alone can make a considerable difference.",
        "of some configuration with at least 3 seeds, two are more than 2 points apart", seeds_matter,
    ),
    *(
        Claim(f"kaggle-{number}", number, f"On Kaggle's test images: {percent} %.", BY_KAGGLE, elsewhere(KAGGLE))
        for number, (percent, _) in SCORES.items()
    ),
)  # fmt: skip
"""The claims, in the order of the report."""
