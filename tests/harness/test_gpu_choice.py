"""GPUs in a plan: cases per product, what runs here, what is left for another host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from enginewatch_collector.backends.nvml_devices import GpuDevice
from enginewatch_db.errors import PlanError, UnfitError
from enginewatch_harness.gpu_choice import (
    Host,
    environment,
    left_line,
    matching,
    pick,
    place,
    runnable,
    slug,
    the_device,
)
from enginewatch_harness.gpu_devices import uses_gpu
from enginewatch_harness.matrix import expand
from enginewatch_harness.plan_file import parse_plan

PLAN = """
name = "p"
{top}
[[model]]
name = "m"
generate = "convnet"
[[workload]]
name = "w"
model = "m"
backends = ["onnxruntime", "trtexec"]
precisions = ["fp16"]
batches = [1, 8]
{workload}
"""

FIRST = GpuDevice(uuid="GPU-aaaaaaaa-0000-0000-0000-000000000000", name="NVIDIA H200", index=0)
TWIN = GpuDevice(uuid="GPU-abbbbbbb-0000-0000-0000-000000000000", name="NVIDIA H200", index=1)
OTHER = GpuDevice(uuid="GPU-cccccccc-0000-0000-0000-000000000000", name="NVIDIA L4", index=2)
SLICE = GpuDevice(
    uuid="MIG-dddddddd-0000-5000-8000-000000000000",
    name="NVIDIA H200 MIG 1g.18gb",
    index=3,
    parent_uuid="GPU-eeeeeeee-0000-0000-0000-000000000000",
    mig_profile="1g.18gb",
)
HOST = Host(devices=(FIRST, TWIN, OTHER, SLICE))
BARE = Host(driver_why="no NVIDIA driver answers: library_not_found")


def cases_of(workload: str = "", top: str = "", *, host: Host = HOST):
    plan = parse_plan(PLAN.format(workload=workload, top=top).encode(), "plan.toml")
    return expand(
        plan,
        ("llamacpp", "onnxruntime", "trtexec"),
        uses_gpu=lambda backend, options: backend == "trtexec" or options.get("provider") == "CUDAExecutionProvider",
        products=lambda: host.products,
    )


def keys(cases) -> list[str]:
    return [case.key.removeprefix("w/") for case in cases]


def test_keys_stay_as_they_are_where_at_most_one_gpu_is_named():
    plain = ["onnxruntime/fp16/b1", "onnxruntime/fp16/b8", "trtexec/fp16/b1", "trtexec/fp16/b8"]
    assert keys(cases_of()) == plain
    assert keys(cases_of('gpus = ["NVIDIA H200"]')) == plain


def test_a_case_per_product_and_only_of_backends_that_run_on_one():
    found = cases_of('gpus = ["NVIDIA H200", "nvidia l4", "NVIDIA H200 MIG 1g.18gb"]')
    gpu_part = ["h200", "l4", "h200-mig-1g.18gb"]
    assert keys(found)[:2] == ["onnxruntime/fp16/b1", "onnxruntime/fp16/b8"]
    assert keys(found)[2:] == [f"trtexec/fp16/{batch}/{gpu}" for batch in ("b1", "b8") for gpu in gpu_part]
    placed = place(found, HOST)
    assert [case.bound for case in placed] == [None, None, *[FIRST, OTHER, SLICE] * 2]


def test_the_plans_gpus_hold_for_workloads_that_name_none():
    both = cases_of(top='gpus = ["NVIDIA L4"]')
    assert [case.gpu for case in both] == [None, None, "NVIDIA L4", "NVIDIA L4"]
    assert {case.gpu for case in cases_of('gpus = ["H200"]', top='gpus = ["NVIDIA L4"]')} == {None, "H200"}


def test_all_means_each_product_once_and_names_it():
    found = cases_of('gpus = ["all"]')
    assert keys(found)[2:5] == [f"trtexec/fp16/b1/{gpu}" for gpu in ("h200", "l4", "h200-mig-1g.18gb")]
    without = place(cases_of('gpus = ["all"]', host=BARE), BARE)
    assert keys(without)[2:] == ["trtexec/fp16/b1", "trtexec/fp16/b8"]
    assert without[2].elsewhere == "it needs a GPU, and no NVIDIA driver answers: library_not_found"
    with pytest.raises(PlanError, match="stands for every product"):
        cases_of('gpus = ["all", "NVIDIA L4"]')


def test_one_gpu_under_two_names_is_given_twice():
    with pytest.raises(PlanError, match=r"case 'w/trtexec/fp16/b1/h200' is given 2 times"):
        cases_of('gpus = ["H200", "NVIDIA H200"]')


def test_excluding_by_gpu():
    found = cases_of('gpus = ["H200", "L4"]\n[[exclude]]\ngpu = "NVIDIA L4"\nbatch = 8')
    assert keys(found)[2:] == ["trtexec/fp16/b1/h200", "trtexec/fp16/b1/l4", "trtexec/fp16/b8/h200"]
    with pytest.raises(PlanError, match="matches no case"):
        cases_of('gpus = ["H200", "L4"]\n[[exclude]]\ngpu = "T4"')


def test_options_of_one_backend_go_before_those_of_all():
    found = cases_of("options = { threads = 2, streams = 1 }\n[workload.backend_options.trtexec]\nstreams = 5")
    assert [case.options for case in found[1:3]] == [{"threads": 2, "streams": 1}, {"threads": 2, "streams": 5}]
    with pytest.raises(PlanError, match=r"backend_options for 'trtexecc'.*did you mean 'trtexec'"):
        cases_of("[workload.backend_options.trtexecc]\nlevel = 5")
    with pytest.raises(PlanError, match=r"backend_options.trtexec has 'threads', an option of onnxruntime"):
        cases_of("[workload.backend_options.trtexec]\nthreads = 5")
    cuda = cases_of('[workload.backend_options.onnxruntime]\nprovider = "CUDAExecutionProvider"')
    assert all(case.on_gpu for case in cuda)


def test_the_first_of_equal_gpus_is_taken_and_another_where_it_is_asked_for():
    found = cases_of()
    assert {case.bound for case in place(found, HOST) if case.on_gpu} == {FIRST}
    assert {case.bound for case in place(found, HOST, "GPU-ABB") if case.on_gpu} == {TWIN}
    named = place(cases_of('gpus = ["H200", "L4"]'), HOST, TWIN.uuid)
    assert [case.bound for case in named[2:4]] == [TWIN, None]
    assert named[3].elsewhere == f"it needs L4, and this session uses {TWIN.uuid} (NVIDIA H200)"


@pytest.mark.parametrize(("device", "what"), [("GPU-a", "fits 2 of"), ("GPU-f", "is none of")])
def test_a_device_that_is_not_one_of_the_hosts_is_refused(device, what):
    with pytest.raises(UnfitError, match=f"{what} this host's GPUs: GPU-aaaaaaaa.*NVIDIA H200"):
        pick(device, HOST)


def test_what_this_host_lacks_is_left_for_another_and_the_rest_runs():
    placed = place(cases_of('gpus = ["H200", "NVIDIA B200"]'), HOST)
    here, left = runnable(placed)
    assert keys(here) == ["onnxruntime/fp16/b1", "onnxruntime/fp16/b8", "trtexec/fp16/b1/h200", "trtexec/fp16/b8/h200"]
    why = "it needs NVIDIA B200, and this host has NVIDIA H200, NVIDIA L4, NVIDIA H200 MIG 1g.18gb"
    assert left == {"w/trtexec/fp16/b1/b200": why, "w/trtexec/fp16/b8/b200": why}
    assert left_line(left) == f"left for another host: w/trtexec/fp16/b1/b200, w/trtexec/fp16/b8/b200 ({why})"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H-200", "'NVIDIA H200'"),
        ("A100-SXM-80GB", "'NVIDIA A100-SXM4-80GB'"),
        ("NVIDIA H200 MIG 1g.18g", "'NVIDIA H200 MIG 1g.18gb'"),
        ("NVIDIA L40S", None),
        ("NVIDIA B300 MIG 1g.34gb", None),
        ("NVIDIA X1", None),
        ("GPU-1234", None),
    ],
)
def test_a_name_that_nobody_knows_gets_a_hint_and_is_no_error(name, expected):
    why = place(cases_of(f'gpus = ["{name}"]'), HOST)[2].elsewhere
    assert why.partition("; did you mean ")[2] == ("" if expected is None else f"{expected}?")


def test_where_nothing_can_run_the_session_is_refused_and_the_missing_driver_is_named():
    only = [case for case in place(cases_of('gpus = ["NVIDIA H200"]', host=BARE), BARE) if case.on_gpu]
    with pytest.raises(UnfitError, match=r"none of the plan's 2 cases.*no NVIDIA driver answers: library_not_found"):
        runnable(only)


def test_a_session_that_goes_on_needs_the_gpus_that_it_began_with():
    cases = place(cases_of('gpus = ["H200", "L4"]'), HOST, TWIN.uuid)
    assert the_device(cases) == TWIN.uuid
    assert the_device(place(cases_of('gpus = ["H200", "L4"]'), HOST)) is None
    with pytest.raises(UnfitError, match=r"began with GPUs that are not here now: w/trtexec/fp16/b1/l4"):
        runnable(cases, all_of_them=True)


def test_without_a_driver_a_case_that_names_no_gpu_stays_and_its_tool_says_what_it_lacks():
    placed = place(cases_of(host=BARE), BARE)
    assert [(case.bound, case.elsewhere) for case in placed] == [(None, None)] * 4


def test_a_parent_in_mig_mode_is_no_product_here_and_uuids_may_be_short():
    host = Host(devices=(SLICE,))
    assert matching("NVIDIA H200", host.devices) == ()
    assert matching("mig-dddd", host.devices) == (SLICE,)
    assert slug(SLICE.uuid) == "mig-dddddddd"


def test_a_process_sees_the_device_alone():
    assert environment(None) == {}
    assert environment(SLICE.uuid) == {"CUDA_VISIBLE_DEVICES": SLICE.uuid, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("backend", "options", "expected"),
    [
        ("trtexec", {}, True),
        ("onnxruntime", {}, False),
        ("onnxruntime", {"provider": "CPUExecutionProvider"}, False),
        ("onnxruntime", {"provider": "CUDAExecutionProvider"}, True),
        ("onnxruntime", {"provider": "TensorrtExecutionProvider"}, True),
        ("torch_tensorrt", {}, True),
        ("torch", {"torch_device": "cpu"}, False),
        ("torch", {"torch_device": "cuda"}, True),
        ("trtllm", {}, True),
        ("trtllm", {"tp": 2}, False),
        ("llamacpp", {}, False),
        ("openai", {}, False),
    ],
)
def test_which_cases_run_on_a_gpu(backend, options, expected):
    assert uses_gpu(backend, options) is expected


def test_the_plan_of_the_docs_has_the_keys_that_they_say():
    text = (Path(__file__).parents[2] / "docs" / "plan.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL) if '"fleet"' in block]
    cases = expand(parse_plan(block.encode(), "docs/plan.md"), ("trtexec",), uses_gpu=lambda *_: True)
    assert keys(cases) == ["resnet/trtexec/fp16/b8/h200", "resnet/trtexec/fp16/b8/h200-mig-1g.18gb"]
