"""Loads in a plan: read, checked, told apart by their keys; and what of them belongs to a series."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_db import ids
from enginewatch_db.errors import PlanError
from enginewatch_harness.backends.base import Job
from enginewatch_harness.load.check import check_spec
from enginewatch_harness.load.identity import load_identity, slo_identity
from enginewatch_harness.load.spec import MODES, Dataset, LoadSpec, Prefixes
from enginewatch_harness.matrix import expand
from enginewatch_harness.plan_file import load_plan, parse_plan
from enginewatch_harness.plan_load import resolved
from enginewatch_harness.prepare import check_models, prepare
from enginewatch_harness.wire import WorkOrder, read_order, write_order

REPOSITORY = Path(__file__).parents[2]
BACKENDS = ("llamacpp", "onnxruntime", "openai", "trtexec")

HEAD = """
name = "p"
[[model]]
name = "m"
generate = "random-llama"
[[workload]]
name = "w"
model = "m"
backends = ["llamacpp"]
precisions = ["fp16"]
"""


def cases_of(*loads: str):
    text = HEAD + "".join(f"[[workload.load]]\n{load}\n" for load in loads)
    return expand(parse_plan(text.encode(), "plan.toml"), BACKENDS)


def keys_of(*loads: str) -> list[str]:
    return [case.key.removeprefix("w/llamacpp/fp16/") for case in cases_of(*loads)]


@pytest.mark.parametrize(
    ("load", "keys"),
    [
        ("concurrency = [1, 4]", ["c1", "c4"]),
        ('mode = "poisson"\nrate_rps = [2.5]', ["poisson2.5rps"]),
        ('mode = "constant"\nrate_rps = [10]', ["constant10rps"]),
        ('mode = "gamma"\nrate_rps = [4, 8]\nburstiness = 2', ["gamma4rps-b2", "gamma8rps-b2"]),
        (
            'mode = "steps"\nsteps = [{ rate_rps = 1, seconds = 5 }, { rate_rps = 2.5, seconds = 5 }]',
            ["steps1-2.5rps"],
        ),
        ('mode = "trace"\ndataset = { path = "data/my trace.jsonl", speed = 2 }', ["trace-x2-my_trace"]),
        ("concurrency = [8]\nthink_time_s = 0.5\nturns = 3", ["c8-think0.5s-turns3"]),
        ("concurrency = [8]\nisl = 512\nprefixes = { groups = 4, tokens = 256 }", ["c8-prefix4x256"]),
        ('concurrency = [8]\nisl = 512\nisl_dist = "normal:64"\nosl = 128', ["c8-i512normal64o128"]),
        ('concurrency = [8]\nisl_dist = "uniform:100-301"', ["c8-i100-301o32"]),
        ('concurrency = [8]\ndataset = { path = "chats.json", format = "sharegpt" }', ["c8-chats"]),
    ],
)
def test_keys_say_what_the_load_is(load, keys):
    assert keys_of(load) == keys


def test_lengths_are_in_the_keys_where_they_tell_loads_apart():
    assert keys_of("concurrency = [2]\nisl = 10", "concurrency = [2]\nisl = 20") == ["c2-i10o32", "c2-i20o32"]
    trace = 'mode = "trace"\ndataset = { path = "t.jsonl" }'
    assert keys_of("concurrency = [2]", trace) == ["c2", "trace-t"]
    assert keys_of("concurrency = [2]", "concurrency = [2]\nosl = 9", trace) == ["c2-i64o32", "c2-i64o9", "trace-t"]
    with pytest.raises(PlanError, match="given 2 times"):
        keys_of("concurrency = [2]", "concurrency = [2]\nslo = { ttft_ms = 100 }")


def test_everything_arrives_in_the_spec():
    load = """
mode = "gamma"
rate_rps = [3]
burstiness = 1.5
ceiling = 64
isl_dist = "uniform:10-31"
osl = 40
osl_dist = "lognormal:0.5"
dataset = { path = "d.jsonl", format = "jsonl" }
prefixes = { groups = 2, tokens = 8 }
turns = 2
tokenizer = "model"
processes = 0
slo = { ttft_ms = 250, itl_ms = 30.5 }
"""
    assert cases_of(load)[0].load == LoadSpec(
        mode="gamma",
        rate_rps=3.0,
        burstiness=1.5,
        concurrency=64,
        isl=20,  # the mean that the bounds state
        isl_dist="uniform:10-31",
        osl=40,
        osl_dist="lognormal:0.5",
        dataset=Dataset(path=Path("d.jsonl"), format="jsonl"),
        prefixes=Prefixes(groups=2, tokens=8),
        turns=2,
        tokenizer=Path("model"),
        processes=0,
        slo={"ttft_ms": 250.0, "itl_ms": 30.5},
    )


@pytest.mark.parametrize(
    ("load", "words"),
    [
        ("", "a closed loop needs concurrency"),
        ('mode = "poison"\nrate_rps = [1]', "load.0..mode"),
        ('mode = "poisson"\nconcurrency = [4]', "takes no concurrency; ceiling"),
        ('mode = "gamma"', "a gamma load needs rate_rps"),
        ('mode = "trace"\nrate_rps = [1]\ndataset = { path = "x" }', "takes no rate_rps"),
        ('mode = "trace"', "needs a dataset"),
        ('mode = "steps"', "needs steps"),
        ('mode = "steps"\nsteps = [{ rate_rps = 1 }]', "seconds' is missing"),
        ('mode = "steps"\nsteps = [{ rate_rps = 0, seconds = 1 }]', "no rate above 0"),
        ("concurrency = [1]\nburstiness = 2", "takes no burstiness"),
        ('mode = "poisson"\nrate_rps = [1]\nthink_time_s = 1', "does not wait for answers"),
        ("concurrency = [1]\nthink_time_s = inf", "think_time_s"),
        ("mode = 'constant'\nrate_rps = [nan]", "rate_rps"),
        ('concurrency = [1]\nisl_dist = "normal:x"', "isl_dist = 'normal:x'"),
        ('concurrency = [1]\nisl = 9\nisl_dist = "uniform:10-30"', "set isl = 20"),
        ("concurrency = [1]\nslo = { ttft = 3 }", "did you mean 'ttft_ms'"),
        ("concurrency = [1]\nslo = { ttft_ms = -3 }", "slo.ttft_ms = -3"),
        ("concurrency = [1]\nprefixes = { groups = 1, tokens = 64 }", "prefixes.tokens = 64 leaves"),
        ("concurrency = [1]\nprefixes = { group = 1, tokens = 6 }", "did you mean 'groups'"),
        ("concurrency = [1]\nturns = 0", "turns"),
        ("concurrency = [1]\nprocesses = -1", "processes"),
        ('concurrency = [1]\ndataset = { path = "x", speed = 2 }', "speed = 2 has no meaning"),
        ('concurrency = [1]\ndataset = { path = "x", format = "csv" }', "format"),
        ("concurrency = [1]\nthink_time = 1", "did you mean 'think_time_s'"),
    ],
)
def test_bad_loads_are_refused_with_their_place(load, words):
    with pytest.raises(PlanError, match=words) as caught:
        cases_of(load)
    assert "workload[0].load[0]" in caught.value.message


def test_paths_are_relative_to_the_plan_file(tmp_path):
    spec = LoadSpec(mode="trace", dataset=Dataset(path=Path("d/t.jsonl")), tokenizer=Path("../tok"))
    found = resolved(spec, tmp_path)
    assert found.dataset.path == tmp_path / "d/t.jsonl"
    assert found.tokenizer == tmp_path / "../tok"
    assert resolved(LoadSpec(mode="closed"), tmp_path) == LoadSpec(mode="closed")


TRACE = HEAD + '[[workload.load]]\nmode = "trace"\ndataset = { path = "t.jsonl" }\n'


def test_a_dataset_that_is_absent_is_refused_before_anything_is_measured(tmp_path):
    plan = parse_plan(TRACE.encode(), "plan.toml")
    with pytest.raises(PlanError, match=r"there is no file .*t\.jsonl.*dataset\.path"):
        check_models(plan, tmp_path)
    (tmp_path / "t.jsonl").write_text("{}", encoding="utf-8")
    check_models(plan, tmp_path)


def test_the_job_has_the_whole_path_and_the_series_the_content(tmp_path, workspace):
    plan = parse_plan(TRACE.encode(), "plan.toml")
    (case,) = expand(plan, BACKENDS)
    hashes = []
    for content in ("one", "two"):
        (tmp_path / "t.jsonl").write_text(content, encoding="utf-8")
        ready = prepare(case, plan=plan, folder=tmp_path, workspace=workspace)
        hashes.append(ready.dataset_sha256)
        if ready.job is not None:
            assert ready.job.load.dataset.path == tmp_path / "t.jsonl"
    assert len(set(hashes)) == 2


def test_a_load_survives_the_way_to_the_worker(tmp_path):
    load = LoadSpec(
        mode="steps",
        steps=((1.0, 2.0), (0.0, 1.5)),
        dataset=Dataset(path=Path("/d")),
        prefixes=Prefixes(groups=1, tokens=2),
        tokenizer=Path("/t"),
        slo={"ttft_ms": 1.5},
    )
    job = Job(
        case_key="k",
        workload="w",
        model_path=Path("m"),
        model_name="m",
        precision="fp16",
        shapes={},
        warmup_s=1.0,
        duration_s=1.0,
        load=load,
        options={},
        seed=1,
    )
    write_order(tmp_path, WorkOrder(action="measure", backend="llamacpp", job=job))
    assert read_order(tmp_path).job.load == load


# --- identity


@pytest.mark.parametrize(
    ("spec", "literal"),
    [
        (LoadSpec(mode="closed", concurrency=4), {"mode": "closed", "isl": 64, "osl": 32, "concurrency": 4}),
        (
            LoadSpec(mode="poisson", concurrency=256, rate_rps=2.5, isl=10, osl=20),
            {"mode": "poisson", "isl": 10, "osl": 20, "rate_mrps": 2500},
        ),
        (
            LoadSpec(mode="closed", concurrency=1, requests=9, processes=0, slo={"ttft_ms": 1.0}),
            {"mode": "closed", "isl": 64, "osl": 32, "concurrency": 1},
        ),
    ],
)
def test_series_keep_their_id_where_nothing_new_is_used(spec, literal):
    assert load_identity(spec) == literal


NEW = [
    {"think_time_s": 0.5},
    {"mode": "gamma", "rate_rps": 2.0, "burstiness": 1.5},
    {"mode": "gamma", "rate_rps": 2.0, "burstiness": 0.5},
    {"mode": "constant", "rate_rps": 2.0},
    {"mode": "steps", "steps": ((1.0, 2.0),)},
    {"mode": "steps", "steps": ((1.0, 2.5),)},
    {"isl_dist": "normal:3"},
    {"osl_dist": "normal:3"},
    {"dataset": Dataset(path=Path("/a/x.json"))},
    {"dataset": Dataset(path=Path("/a/y.json"))},
    {"mode": "trace", "dataset": Dataset(path=Path("/a/x.json"), speed=2.0)},
    {"prefixes": Prefixes(groups=2, tokens=8)},
    {"turns": 2},
    {"tokenizer": Path("/t")},
    {},
]


def test_every_new_field_makes_another_series():
    specs = [LoadSpec(**{"mode": "closed", **change}) for change in NEW]
    for spec in specs:
        check_spec(spec)
    found = [json.dumps(ids.canonical(load_identity(spec)), sort_keys=True) for spec in specs]
    assert len(set(found)) == len(specs)


def test_a_dataset_is_its_name_and_content_and_not_its_place():
    spec = LoadSpec(mode="trace", dataset=Dataset(path=Path("/a/x.json")))
    moved = dataclasses.replace(spec, dataset=Dataset(path=Path("/b/x.json")))
    assert load_identity(spec, dataset_sha256="1") == load_identity(moved, dataset_sha256="1")
    assert load_identity(spec, dataset_sha256="1") != load_identity(spec, dataset_sha256="2")


def test_objectives_are_options_of_the_identity():
    assert slo_identity(LoadSpec(mode="closed")) == {}
    spec = LoadSpec(mode="closed", slo={"tpot_ms": 20.5, "ttft_ms": 200.0})
    assert slo_identity(spec) == {"slo_us": {"tpot_ms": 20_500, "ttft_ms": 200_000}}
    ids.canonical(slo_identity(spec))


@given(
    rate=st.floats(0.001, 1e6), think=st.floats(0, 100), speed=st.floats(0.01, 100), steps=st.lists(st.floats(0.1, 9))
)
def test_no_float_reaches_an_identity(rate, think, speed, steps):
    spec = LoadSpec(
        mode="steps",
        rate_rps=rate,
        think_time_s=think,
        burstiness=speed,
        steps=tuple((value, value) for value in steps),
        dataset=Dataset(path=Path("x"), speed=speed),
        slo={"ttft_ms": rate},
    )
    ids.canonical({**load_identity(spec, dataset_sha256="0"), **slo_identity(spec)})


# --- what ships


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_every_example_is_a_plan_whose_files_exist(path):
    plan, _ = load_plan(path)
    assert expand(plan, BACKENDS)
    check_models(plan, path.parent)


def test_every_load_in_the_docs_can_be_loaded():
    text = (REPOSITORY / "docs" / "plan.md").read_text(encoding="utf-8")
    blocks = [block for block in text.split("```toml\n")[1:] if block.startswith("[[workload.load]]")]
    loads = [load for block in blocks for load in block.split("```")[0].split("[[workload.load]]")[1:]]
    cases = [case for load in loads for case in cases_of(load)]
    assert {case.load.mode for case in cases} == set(MODES)
    assert len(cases) == len({case.key for case in cases}) > 10
