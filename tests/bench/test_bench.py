"""The benchmark scripts run, check what they time, and the pages' tables say what the committed rows say."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from fastcifar.kernels import reference
from support import ROOT

from bench import packs, readme
from bench.lib import rows, sass
from bench.rivals.networks import NETWORKS
from bench.rivals.plain import apply_numba_pixels
from bench.tables import claims
from fastcifar.augment import draw
from fastcifar.models.build import build, count_parameters
from fastcifar.recipes import RECIPES


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_pages_tables_are_those_of_the_committed_rows(page):
    text = page.read_text()
    assert readme.page_text(page) == text, "run: python bench/readme.py"
    assert [name for _, name, _ in readme.BLOCK.findall(text)] == list(readme.PAGES[page])


def test_pixels_that_differ_are_not_claimed_to_be_equal():
    gpu, parity = (rows.read(rows.RESULTS / name) for name in ("gpu-check-h100.jsonl", "parity-cpu.jsonl"))
    assert claims.pixels(gpu, parity)[1].startswith("0 of 44 million values differ")
    wrong = [row | {"verified": False, "differing": 1} if row["what"] == "bits" else row for row in gpu]
    with pytest.raises(ValueError, match="differ from the definition"):
        claims.pixels(wrong, parity)


@pytest.mark.parametrize("path", sorted(rows.RESULTS.glob("*.jsonl")), ids=lambda path: path.name)
def test_committed_rows_carry_where_they_are_from(path):
    for row in rows.read(path):
        assert {"cpu", "cores", "python", "versions", "commit", "dirty"} <= row["environment"].keys()


@pytest.mark.whole
def test_the_plain_loop_is_a_fair_contestant():
    """It computes the same pixels, but for a few at ties of its float coordinates."""
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    draws = draw(RECIPES["erasing"], 0, 0, np.arange(60))
    out = np.empty((60, 32, 32, 3), np.float32)
    apply_numba_pixels(images, draws, out)
    expected = reference.apply(torch.from_numpy(images), draws, RECIPES["erasing"]).permute(0, 2, 3, 1).numpy()
    assert (np.abs(out - expected) > 1e-5).mean() < 1e-4


def run(script: str, *arguments: str, status: int = 0, **variables: str) -> str:
    """What the script says, where it ends with that status. Triton's interpreter is off unless ``variables`` say so."""
    around = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *arguments],
        capture_output=True, text=True, check=False, env=around,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.mark.whole
def test_kernels_verifies_every_contestant(tmp_path):
    out = tmp_path / "rows.jsonl"
    run("kernels.py", "--recipes", "erasing", "--batch", "64", "--repeats", "1", "--out", str(out))
    found = rows.read(out)
    assert {row["kernel"] for row in found} == {"cpu", "torchvision, 1 thread", "plain numba"}
    assert all(row["verified"] and row["images_per_s"] > 0 for row in found)
    assert all(row["max_abs_dev"] == 0 for row in found if row["kernel"] == "cpu")


@pytest.mark.whole
def test_parity_finds_no_more_than_rounding(tmp_path):
    out = tmp_path / "rows.jsonl"
    run("parity.py", "--recipes", "erasing", "--draws", "150", "--out", str(out))
    (row,) = rows.read(out)
    assert row["draws"] == 150
    assert row["reference_torchvision"] < 4e-6
    assert row["cpu_reference_float32"] < 1e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plain_loops_networks_are_ours(name):
    """Of the same weights, but for torch's attention, whose queries, keys and values are one matrix as well."""
    ours, plain = build(name, 10, 0.0, 0), NETWORKS[name](10)
    assert count_parameters(plain) == count_parameters(ours)


@pytest.mark.slow
def test_ways_of_training_packs_are_raced(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "NETWORKS", {"mlp_s": 1, "cnn": 2})
    monkeypatch.setattr(packs, "TURN", 0.05)
    monkeypatch.setattr(packs, "PLAIN_IMAGES", 64)
    out = tmp_path / "rows.jsonl"
    packs.write_packs(synthetic, torch.device("cpu"), 2, [0], out, runs=2)
    found = rows.read(out)
    loops = {model: [row["loop"] for row in found if row["model"] == model] for model in packs.NETWORKS}
    stacked = {"mlp_s": ["grouped"], "cnn": ["grouped", "im2col"]}
    for model, ways in loops.items():
        assert set(ways) - {"side-by-side"} == {"serial", *stacked[model], "plain, 0 workers"}
        assert sum(row["picked"] for row in found if row["model"] == model) == 1
    assert all(row["images_per_s"] > 0 for row in found)
    serial = next(row for row in found if row["loop"] == "serial")
    slower = serial | {"loop": "grouped", "images_per_s": serial["images_per_s"] / 2}
    plain = serial | {"loop": "plain, 0 workers", "images_per_s": serial["images_per_s"] / 8}
    assert packs.shares(slower, [serial, slower, plain]) == ("2.00", "1/4.0")


@pytest.mark.whole
def test_accuracy_refuses_a_folder_without_runs(tmp_path):
    said = run("accuracy.py", "--runs", str(tmp_path), status=1)
    assert "no finished run" in said
    assert json.dumps(str(tmp_path))[1:-1] in said


LISTING = """
Resource usage:
 Common:
  GLOBAL:0
 Function augment:
  REG:80 STACK:8 SHARED:1024 LOCAL:16 CONSTANT[0]:632 TEXTURE:0 SURFACE:0 SAMPLER:0
        Function : augment
        /*0000*/                   LDG.E.U8.CONSTANT R2, desc[UR6][R12.64+0x10] ;   /* 0x000010060c027981 */
                                                                                    /* 0x001eae000c1e1b00 */
        /*0010*/                   LDG.E R3, desc[UR6][R12.64] ;                    /* 0x000010060c027981 */
        /*0020*/                   LDG.E.LTC128B R3, desc[UR6][R12.64] ;            /* 0x000010060c027981 */
        /*0030*/                   LDG.E.EF.64 R4, desc[UR6][R12.64] ;              /* 0x000010060c027981 */
        /*0040*/               @P1 LDS.128 R4, [R3] ;                               /* 0x000010060c027981 */
        /*0050*/              @!PT STL [R1], R4 ;                                   /* 0x000010060c027981 */
        /*0060*/                   MUFU.RCP64H R5, R9 ;                             /* 0x000010060c027981 */
        /*0070*/                   F2F.F64.F32 R4, R4 ;                             /* 0x000010060c027981 */
        /*0080*/                   DADD R4, R4, R6 ;                                /* 0x000010060c027981 */
        /*0090*/                   DEPBAR.LE SB0, 0x0 ;                             /* 0x000010060c027981 */
        /*00a0*/              @!P0 STG.E.128 desc[UR28][R6.64], R16 ;               /* 0x0000001006008986 */
        /*00b0*/                   STG.E.128 desc[UR28][R6.64+0x10], R16 ;          /* 0x0000001006008986 */
        /*00c0*/                   STG.E.U16 desc[UR28][R6.64], R16 ;               /* 0x0000001006008986 */
        /*00d0*/              @UP2 UIADD3 UR4, UR4, 0x1, URZ ;                      /* 0x0000001006008986 */
        /*00e0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;                    /* 0x0000001006008986 */
        /*00f0*/                   CALL.REL.NOINC 0xfa50 ;                          /* 0x0000001006008986 */
        /*fa50*/                   BRA 0xfa50;                                      /* 0xfffffffc00fc7947 */
       /*1fa60*/                   NOP;                                             /* 0x0000000000007918 */
"""


def test_a_listing_of_machine_code_is_counted():
    assert sass.resources(LISTING) == {
        "registers": 80, "stack_bytes": 8, "local_bytes": 16, "static_shared_bytes": 1024
    }  # fmt: skip
    assert sass.counts(LISTING) == {
        "instructions": 17,
        "global_loads": {"8": 1, "32": 2, "64": 1},
        "global_stores": {"16": 1, "128": 2},
        "shared_loads": 1,
        "shared_stores": 0,
        "local_loads": 0,
        "local_stores": 1,
        "shuffles": 0,
        "barriers": 1,
        "double": 3,
        "special": 1,
        "calls": 1,
    }


@pytest.mark.parametrize(
    ("block", "held"),
    [
        ((4, 32, 1024), (64, "warps")),
        ((1, 32, 1024), (32, "blocks")),
        ((4, 80, 1024 + 4096), (24, "registers")),  # 80 * 32 registers a warp: 6 in each of the 4 partitions
        ((4, 255, 1024), (8, "registers")),
        ((4, 32, 1024 + 32 * 1024), (24, "shared memory")),  # 33 KiB of 228
    ],
)
def test_warps_that_an_sm_90_holds(block, held):
    assert sass.resident(*block) == held


@pytest.mark.whole
def test_no_kernel_spills_when_compiled_for_sm_90(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    out = tmp_path / "rows.jsonl"
    run("compiled.py", "--recipes", "imagenet256,erasing", "--out", str(out), TRITON_CACHE_DIR=str(tmp_path / "cache"))
    every = rows.read(out)
    ways = {(row["dtype"], *row["launch"].values(), row["chosen"]) for row in every if row["recipe"] == "erasing"}
    assert len(ways) == 2 * 8  # of a type of pixels: 2, 4, 8 or 16 warps an image, dice thrown inside or before
    assert sum(chosen for *_, chosen in ways) == 2
    assert {row["launch"]["dice"] for row in every if row["kernel"] == "write_draws"} == {"before"}
    found = [row for row in every if row["chosen"]]
    launches = {(row["recipe"], row["kernel"], row["dtype"]) for row in found}
    assert {(recipe, kernel) for recipe, kernel, _ in launches} == {
        ("erasing", "write_draws"), ("erasing", "augment"), ("imagenet256", "augment"), ("imagenet256", "enlarge")
    }  # fmt: skip
    assert len(launches) == len(found) == 8
    for row in found:
        assert row["registers"] <= 255
        # Triton 3.8 puts one value of erasing's bfloat16 form aside, 3.9 none: that is no array in local memory
        assert row["stack_bytes"] <= 8
        assert row["local_bytes"] == 0
        assert max(row["local_loads"], row["local_stores"]) <= 1
        assert row["instructions"] > 100
        assert row["global_loads"]
        assert row["global_stores"]
        assert not row["fp_fusion"]


@pytest.mark.whole
def test_what_would_compile_nothing_is_refused(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    out = str(tmp_path / "rows.jsonl")
    assert "unset it" in run("compiled.py", "--out", out, status=2, TRITON_INTERPRET="1")
    assert "there are none, basic" in run("compiled.py", "--recipes", "sepia", "--out", out, status=2)


@pytest.mark.whole
def test_the_loader_s_own_cost_and_first_batch_are_timed(synthetic, tmp_path):
    out = tmp_path / "rows.jsonl"
    run("loader.py", "--data", str(synthetic.path), "--repeats", "1", "--out", str(out))
    first, own = rows.read(out)
    assert (first["what"], own["what"]) == ("first batch", "own cost")
    assert sum(first["parts"].values()) < first["seconds"]
    assert first["parts"][first["longest"]] == max(first["parts"].values())
    assert own["own_us"] < 50
    assert own["share"] == own["own_us"] / own["resident_us"]
