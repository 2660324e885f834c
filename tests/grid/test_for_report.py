"""The runs that complete the most claims in a time: never more than the time, never a run for nothing, and optimal."""

from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.text import rows_of, text_of
from support.widths import render
from support.written_runs import rising, write_run

from fastcifar.errors import UsageError
from fastcifar.experiments import SEEDS
from fastcifar.grid import for_report
from fastcifar.grid.for_report import Target, choice_of, choose, chosen, targets_of
from fastcifar.grid.plan import Asked
from fastcifar.grid.speeds import Speed, Speeds
from fastcifar.grid.wanted import Wanted, runs_of
from fastcifar.report.claims import CLAIMS, verdicts
from fastcifar.report.collection import collect
from fastcifar.report.rules import NOT_RUN
from fastcifar.system.load import Load

CPU = torch.device("cpu")
DATASET = SimpleNamespace(
    sha256="ab" * 32,
    classes=tuple("0123456789"),
    ids=lambda split: range({"training": 4000, "validation": 1000}[split]),
)
NEVER = {"kaggle-1", "kaggle-2", "kaggle-3", "kaggle-4", "seeds"}
"""The claims that no certain run decides."""


def runs(*numbers, **options):
    return runs_of(Wanted(numbers, amp="off", **options), DATASET, CPU)


@pytest.fixture
def initial(monkeypatch):
    """The pretrained networks have weights."""
    monkeypatch.setattr("fastcifar.grid.wanted.weights_for", lambda *_: SimpleNamespace(identity="none", note=""))


# the claims and their runs


def test_every_claim_of_the_report_has_its_runs_in_the_grid(initial):
    targets, unreachable = targets_of(runs(1, 2, 3, 4).specs, ["sound"])
    assert [target.claim for target in targets] == [claim.id for claim in CLAIMS if claim.id not in NEVER]
    assert {claim for claim, _ in unreachable} == NEVER
    sizes = {target.claim: len(target.runs) for target in targets}
    assert sizes["mlp-s"] == sizes["cnn-plain"] == 3  # one configuration with three seeds
    assert sizes["cnn-dropout"] == 6
    assert sizes["cnn-harder"] == 9
    assert sizes["vit-alike"] == 18  # all of the ViT's grid
    assert sizes["resnet-restless"] == 9
    assert len(frozenset().union(*(target.runs for target in targets))) < len(runs(1, 2, 3, 4).specs) / 3


@pytest.mark.whole
@pytest.mark.parametrize("protocol", ["sound", "as-run"])
def test_the_runs_of_a_claim_are_enough_to_judge_it_and_no_configuration_is_too_much(tmp_path, protocol):
    """What the rules declare that they need is what they read."""
    targets, _ = targets_of(runs(1, 2, 3, protocols=[protocol]).specs, [protocol])
    by_id = {claim.id: claim for claim in CLAIMS}
    assert len(targets) > 10
    for number, target in enumerate(targets):
        out = tmp_path / str(number)
        for spec in target.runs:
            write_run(out, spec, rising(0.4 + 0.01 * spec.seed))
        verdict = by_id[target.claim].judge(collect(out), protocol)
        assert verdict.verdict != NOT_RUN, target.claim
        assert set(verdict.runs) <= {spec.run_id for spec in target.runs}
        if target.claim != "vit-alike":  # whose configurations are judged in pairs
            assert set(verdict.runs) == {spec.run_id for spec in target.runs}, target.claim


def test_a_grid_that_lacks_a_configuration_cannot_complete_its_claim():
    targets, unreachable = targets_of(runs(2, only={"recipe": ["none", "basic"]}).specs, ["sound"])
    assert "cnn-basic" in {target.claim for target in targets}
    assert {"cnn-erasing", "cnn-harder", "mlp-s", "vit"} <= {claim for claim, _ in unreachable}
    targets, _ = targets_of(runs(1, protocols=["as-run"]).specs, ["as-run"])
    assert "mlp-l" not in {target.claim for target in targets}, "as-run has no large MLP"


def test_all_seeds_and_all_protocols_of_the_grid_count():
    targets, _ = targets_of(runs(1, protocols=["sound", "report"], seeds=range(5)).specs, ["sound", "report"])
    assert {(target.claim, target.protocol, len(target.runs)) for target in targets} == {
        (claim, protocol, 5) for claim in ("mlp-s", "mlp-s-losses", "mlp-l") for protocol in ("sound", "report")
    }


# the choice


def best(targets, seconds, budget):
    """The most claims, with the fewest seconds, by trying every set of claims."""
    found = (0, 0.0)
    for size in range(len(targets) + 1):
        for some in combinations(targets, size):
            needed = frozenset(run for target in some for run in target.runs)
            cost = sum(seconds[run] for run in needed if run in seconds)
            if cost <= budget:
                found = max(
                    found, (sum(target.runs <= needed | (set(ALL) - set(seconds)) for target in targets), -cost)
                )
    return found


ALL = "abcdefgh"
TARGETS = st.lists(st.frozensets(st.sampled_from(ALL), min_size=1, max_size=4), min_size=1, max_size=7)


@given(
    TARGETS,
    st.dictionaries(st.sampled_from(ALL), st.sampled_from([1.0, 2.0, 5.0, 9.0])),
    st.sampled_from([0, 1, 4, 9, 20]),
)
def test_the_choice_is_the_best_within_the_time_and_has_no_run_for_nothing(needs, seconds, budget):
    targets = [Target(f"claim-{n}", "sound", runs) for n, runs in enumerate(needs)]
    found = choose(targets, seconds, budget)
    cost = sum(seconds[run] for run in found.runs)
    assert cost <= budget
    complete = len(found.ready) + len(found.completed)
    assert (complete, -cost) == best(targets, seconds, budget)
    used = frozenset(run for target in found.completed for run in target.runs)
    assert found.runs <= used
    assert {target.claim for target in (*found.ready, *found.completed, *found.left)} == {t.claim for t in targets}


def test_the_greedy_answer_is_there_when_the_search_ends_early(monkeypatch):
    """One step: the claim that completes the most an hour, and so on."""
    monkeypatch.setattr(for_report, "NODES", 3)
    seconds = dict.fromkeys(ALL, 1.0) | {"a": 10.0}
    targets = [Target(f"claim-{run}", "sound", frozenset(run)) for run in ALL]
    found = choose(targets, seconds, 3.0)
    assert len(found.completed) == 3
    assert "a" not in found.runs


def test_shared_runs_make_claims_cheap_and_finished_ones_free():
    targets = [
        Target("dear", "sound", frozenset("a")), Target("pair", "sound", frozenset("bc")),
        Target("single", "sound", frozenset("b")), Target("ready", "sound", frozenset("d")),
    ]  # fmt: skip
    found = choose(targets, {"a": 5.0, "b": 3.0, "c": 3.0}, 6.0)
    assert [target.claim for target in found.ready] == ["ready"]
    assert [target.claim for target in found.completed] == ["pair", "single"]
    assert [target.claim for target in found.left] == ["dear"]
    assert found.sentence() == (
        "for the report: 2 runs in 6 s at most complete 2 claims; 1 can be judged already; 1 left out, for 5 s more"
    )
    assert found.cost(targets[0]) == 5.0
    nothing = choose(targets[:1], {"a": 5.0}, 4.0)
    assert not nothing.runs
    assert "no claim can be completed in this time; dear needs the least, 5 s at most" in nothing.sentence()


def test_the_whole_report_is_chosen_at_once(initial):
    specs = runs(1, 2, 3, 4, protocols=["sound", "report", "as-run"]).specs
    targets, _ = targets_of(specs, ["sound", "report", "as-run"])
    seconds = {spec: {1: 100.0, 2: 600.0, 3: 5000.0, 4: 30000.0}[spec.experiment] + spec.seed for spec in specs}
    few, many, every = (choose(targets, seconds, hours * 3600.0) for hours in (1, 8, 10_000))
    assert 5 < len(few.completed) < len(many.completed) < len(every.completed) == len(targets)
    for found, hours in ((few, 1), (many, 8)):
        assert sum(seconds[run] for run in found.runs) <= hours * 3600
        assert {run.seed for run in found.runs} == set(SEEDS)


# with the machine's speed


@pytest.fixture
def speeds(synthetic, monkeypatch, tmp_path):
    """Experiment 1's networks train 1,000 images/s, others 10."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Speeds(
        synthetic, CPU, lambda spec, *_: Speed(*[1000.0 if spec.experiment == 1 else 10.0] * 2), lambda: Load(0.0, 0.0)
    )


def test_the_measured_hours_decide(synthetic, speeds, tmp_path):
    asked, every = Asked(synthetic, tmp_path, CPU), runs_of(Wanted([1, 2], amp="off"), synthetic, CPU)
    images = sum(len(synthetic.ids(split)) for split in ("training", "validation"))
    run = images / 1000 * 100  # seconds, for 100 epochs
    found = choice_of(asked, every, ["sound"], speeds, 6 * run + 1, lambda text: None)
    assert [target.claim for target in found.completed] == ["mlp-s", "mlp-s-losses", "mlp-l"]
    assert found.seconds[next(iter(found.runs))] == pytest.approx(run)
    assert {spec.model for spec in chosen(every, found).specs} == {"mlp_s", "mlp_l"}
    assert "measured now" in found.source
    plain = found.plain()
    assert plain["seconds"] == pytest.approx(6 * run)
    assert [entry["claim"] for entry in plain["completed"]] == ["mlp-s", "mlp-s-losses", "mlp-l"]
    everything = choice_of(asked, every, ["sound"], speeds, None, lambda text: None)
    assert not everything.left


def test_what_is_shown(synthetic, speeds, tmp_path):
    asked, every = Asked(synthetic, tmp_path, CPU), runs_of(Wanted([1, 2], amp="off"), synthetic, CPU)
    found = choice_of(asked, every, ["sound"], speeds, 100.0, lambda text: None)
    rows = {row[0]: row[1:] for row in rows_of(text_of(found.table()))}
    assert rows["mlp-s"][0::3] == ["sound", "30 s"]
    assert rows["mlp-s"][-1] == "now"
    assert rows["cnn-plain"][-1] == "left out"
    assert "claims share runs" in render(found.table(), 60)


def test_a_grid_without_a_claim_is_refused(synthetic, speeds, tmp_path):
    asked = Asked(synthetic, tmp_path, CPU)
    none = runs_of(Wanted([2], overrides={"lr": [0.5]}, amp="off"), synthetic, CPU)
    with pytest.raises(
        UsageError, match="--for-report: no claim of the report can be judged with runs of these options"
    ):
        choice_of(asked, none, ["sound"], speeds, 100.0, lambda text: None)


def test_the_verdicts_of_the_report_are_those_of_the_claims(tmp_path):
    write_run(tmp_path, runs(1).specs[0], rising(0.4))
    assert [claim.id for claim, _ in verdicts(collect(tmp_path), ["sound"])] == [claim.id for claim in CLAIMS]
