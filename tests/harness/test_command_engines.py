"""``enginewatch engines`` and ``rollback`` on real ONNX Runtime engines and on recordings of trtexec."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from enginewatch_db.connect import Reader
from enginewatch_db.engines import GoodEngine
from enginewatch_db.errors import ExitCode
from enginewatch_db.judgements import accept
from enginewatch_db.model import EngineRecord
from enginewatch_db.workspace import Workspace
from enginewatch_harness import cli, events
from enginewatch_harness.commands import engines_spread
from enginewatch_harness.commands import rollback as command
from enginewatch_harness.engine_fit import Here, misfits, unknown
from enginewatch_harness.engine_registry import Engine
from enginewatch_harness.plan_file import load_plan
from enginewatch_harness.progress import PlainProgress
from enginewatch_harness.rollback import load_flags
from enginewatch_harness.session import run_session
from enginewatch_harness.session_request import SessionRequest

RECORDED = Path(__file__).parents[1] / "data" / "harness" / "trtexec"
PLAN = """
name = "tiny"
repeats = 4
builds_per_case = 2
seed = 3
[measure]
warmup_s = 0.02
duration_s = 0.05
timeout_s = 60
[[model]]
name = "net"
generate = "convnet_tiny"
[[workload]]
name = "net"
model = "net"
backends = ["onnxruntime"]
precisions = ["fp32"]
batches = [1]
options = { accuracy = false }
"""
CASE = "net/onnxruntime/fp32/b1"


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[Workspace, list[events.Event]]:
    """A store with one accepted session of one case, built twice."""
    root = tmp_path_factory.mktemp("engines")
    plan_path = root / "plan.toml"
    plan_path.write_text(PLAN)
    plan, sha256 = load_plan(plan_path)
    workspace, heard = Workspace(root / "ew"), []
    outcome = run_session(SessionRequest(plan=plan, plan_path=plan_path, plan_sha256=sha256), workspace, heard.append)
    accept(workspace, "tiny", outcome.session_id, by=None, reason="first")
    return workspace, heard


@pytest.fixture
def store(measured, tmp_path, monkeypatch) -> Workspace:
    """A copy of that store, which a test may spoil; the working folder is empty."""
    copied = Workspace(tmp_path / "ew")
    shutil.copytree(measured[0].root, copied.root, symlinks=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("ENGINEWATCH_STORE", str(copied.root))
    return copied


@pytest.fixture
def call(capsys):
    """Call the command line: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(list(arguments))
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


def listed(call) -> list[dict]:
    code, out, _ = call("engines", "list", "--json")
    assert code == 0
    return json.loads(out)


def test_each_repeat_uses_its_build_and_the_text_says_which(measured):
    workspace, heard = measured
    with Reader.open(workspace) as reader:
        rows = reader.console("SELECT repeat, build_number, engine_sha256 FROM runs ORDER BY repeat").to_pylist()
        plan = reader.console("SELECT details->>'plan_text' AS text FROM sessions").to_pylist()
    assert [row["build_number"] for row in rows] == [0, 1, 0, 1]
    assert plan == [{"text": PLAN}]
    building = [event for event in heard if isinstance(event, events.Building)]
    assert [(event.build, event.builds) for event in building] == [(1, 2), (2, 2)]
    assert PlainProgress()._line(building[1]) == f"build 2/2 {CASE} (build 2 of 2)"


def test_the_session_says_of_an_engine_what_its_backend_does_not(store, call):
    engine = listed(call)[0]
    assert (engine["model"], engine["backend"], engine["precision"]) == ("net", "onnxruntime", "fp32")
    assert engine["cases"] == [CASE]
    assert engine["device"]
    assert engine["tool_version"]
    assert engine["built_at"]
    assert engine["cache"]["state"] == "ok"
    assert engine["kept"] == f"last good of {CASE}"


def test_list_and_show_print_what_the_store_and_the_cache_know(store, call):
    code, out, _ = call("engines", "list")
    assert code == 0
    assert CASE in out
    engine = listed(call)[0]
    code, out, _ = call("engines", "show", engine["engine_sha256"][:8])
    assert code == 0
    for word in (
        engine["engine_sha256"],
        engine["engine_key"],
        CASE,
        "last good",
        "graph_optimization=all",
        "computes in",
    ):
        assert word in out
    code, out, _ = call("engines", "show", engine["engine_sha256"][:8], "--json")
    facts = json.loads(out)
    assert [row["build_number"] for row in facts["builds"]] == [0, 1]
    assert all(row["build_time_s"] > 0 for row in facts["builds"])
    assert facts["key_parts"]["options"]["provider"] == "CPUExecutionProvider"
    assert facts["precision_histogram"][0]["dtype"] == "fp32"
    assert sum(row["runs"] for row in facts["used"]) == facts["runs"]


def test_an_id_that_means_nothing_or_two_engines_names_the_candidates(store, call):
    engines = listed(call)
    code, _, err = call("engines", "show", engines[0]["engine_key"][:8])
    if len({engine["engine_sha256"] for engine in engines}) > 1:
        assert code == ExitCode.USAGE
        assert "ambiguous" in err
        assert all(engine["engine_sha256"][:12] in err for engine in engines)
    code, _, err = call("engines", "show", "ffff0000ffff")
    assert code == ExitCode.USAGE
    assert engines[0]["engine_sha256"][:12] in err


def test_without_a_store_every_command_says_so(call, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINEWATCH_STORE", str(tmp_path / "absent"))
    for arguments in (("engines", "list"), ("engines", "verify"), ("engines", "prune"), ("rollback", CASE)):
        code, _, err = call(*arguments)
        assert code == ExitCode.STORAGE
        assert "there is no store" in err


def test_verify_finds_what_was_altered_cut_off_left_and_lost(store, call):
    assert call("engines", "verify")[0] == 0
    folders = sorted(path for path in store.engines.iterdir() if path.is_dir())
    (store.engines / ".tmp-999999999-x").mkdir()
    code, out, _ = call("engines", "verify")
    assert (code, "half a build" in out) == (0, True)
    engine = folders[0] / "engine"
    engine.write_bytes(engine.read_bytes()[:-1] + b"!")
    code, out, _ = call("engines", "verify")
    assert (code, "altered" in out) == (ExitCode.STORAGE, True)
    for folder in folders:
        shutil.rmtree(folder)
    code, _, err = call("engines", "verify")
    assert 'enginewatch accept latest --reason "..."' in " ".join(err.split())
    code, out, _ = call("engines", "verify", "--json")
    report = json.loads(out)
    assert code == ExitCode.STORAGE
    assert {item["kept"] for item in report["lost"]} == {f"last good of {CASE}"}
    assert [item["state"] for item in report["folders"]] == ["orphan"]
    for lock in store.engines.glob("*.lock"):
        lock.unlink()
    code, out, _ = call("engines", "verify", "--json")
    assert (code, json.loads(out)["lost"]) == (0, []), "an engine of another host was never in this cache"


def test_prune_tells_first_removes_with_yes_and_keeps_what_is_needed(store, call):
    limits = ("--older-than", "0", "--max-size", "0", "--keep-last", "1")
    _, out, err = call("engines", "prune", *limits)
    assert "0 would go" in out
    assert "protected, though beyond the limits: " in err
    assert f"(last good of {CASE})" in err
    assert "is beyond the limits" in call("engines", "prune", "--keep-last", "5")[2]
    spare = store.engines / "00000000-0000-8000-8000-000000000000"
    source = next(path for path in sorted(store.engines.iterdir()) if path.is_dir())
    shutil.copytree(source, spare)
    meta = json.loads((spare / "engine.json").read_text())
    content = b"never measured"
    (spare / "engine").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    (spare / "engine.json").write_text(json.dumps(meta | {"engine_sha256": sha256, "size_bytes": len(content)}))
    code, out, _ = call("engines", "prune", "--max-size", "0")
    assert (code, "1 would go" in out) == (0, True)
    assert spare.is_dir()
    with store.lock("session", wait_s=0, busy="held"):
        code, _, err = call("engines", "prune", "--max-size", "0", "--yes")
    assert (code, spare.is_dir()) == (ExitCode.STORAGE, True)
    assert "a session runs" in err
    code, out, _ = call("engines", "prune", "--max-size", "0", "--yes", "--json")
    assert (json.loads(out)["removed"], spare.is_dir(), source.is_dir()) == (1, False, True)
    assert call("engines", "verify")[0] == 0


def test_spread_splits_runs_and_builds_of_a_session(store, call):
    code, out, _ = call("engines", "spread", "--session", "latest", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found[0]["case"], found[0]["runs"]) == (CASE, 4)
    assert found[0]["run_sd_pct"] > 0
    assert call("engines", "spread")[0] == 0
    assert call("engines", "spread", "--plan", "other")[0] == ExitCode.USAGE


def test_an_engine_in_two_sessions_and_two_cases_is_one_build():
    cells = {
        (case, case): {session: {"a": [1.0, 1.1], "b": [1.2, 1.3]} for session in ("s1", "s2")} for case in ("b1", "b8")
    }
    *each, (place, together) = engines_spread._spreads(cells, "latency_p50_ms")
    assert [(item.builds, item.runs) for _, item in each] == [(2, 8), (2, 8)]
    assert (place["case"], place["sessions"]) == (None, ["s1", "s2"])
    assert (together.builds, together.runs) == (2, 16)


def test_diff_of_recordings_needs_no_store_and_sums_to_the_measured_total(call, tmp_path, monkeypatch):
    monkeypatch.setenv("ENGINEWATCH_STORE", str(tmp_path / "absent"))
    base, cand = (str(RECORDED / f"resnet50-{name}-b8.layers.json.gz") for name in ("fp32", "fp16"))
    code, out, _ = call("engines", "diff", base, cand)
    assert code == 0
    assert "resnet50-fp16-b8" in out
    assert "measured (mean GPU time) " in out
    found = json.loads(call("engines", "diff", base, cand, "--json")[1])
    explained = sum(group["delta_ns"] for group in found["groups"]) + found["conversions_delta_ns"]
    assert explained == pytest.approx(found["total_delta_ns"], rel=0.02)
    assert explained + found["residual_ns"] == found["total_delta_ns"]
    assert found["base_total_ns"] == pytest.approx(2_653_600, rel=0.01)
    profiled_ns = found["cand_profile_ns"] - found["base_profile_ns"]
    assert found["profile_residual_ns"] == found["total_delta_ns"] - profiled_ns
    assert found["base_profile_ns"] > found["base_total_ns"] > 0
    assert min(found["base_overhead_ns"], found["cand_overhead_ns"]) >= 0


def test_a_folder_and_a_profile_lead_to_the_same_engine_and_what_is_missing_is_said(call, tmp_path):
    for name in ("layers", "profile"):
        shutil.copyfile(RECORDED / f"resnet50-fp16-b8.{name}.json.gz", tmp_path / f"trtexec.{name}.json.gz")
    code, out, err = call("engines", "diff", str(tmp_path), str(tmp_path / "trtexec.profile.json.gz"), "--json")
    assert code == 0
    assert json.loads(out)["layers_delta_ns"] == 0
    assert "no trtexec.times.json beside it" in err
    code, _, err = call("engines", "diff", str(tmp_path), str(tmp_path / "other.layers.json"))
    assert (code, "other.layers.json" in err) == (ExitCode.USAGE, True)


def test_diff_takes_engines_cases_of_sessions_and_runs(store, call):
    engine = listed(call)[0]["engine_sha256"][:10]
    code, out, _ = call("engines", "diff", f"latest:{CASE}", engine, "--json")
    assert code == 0
    assert json.loads(out)["aligned_pct"] == pytest.approx(100, abs=5)
    run_id = json.loads(out)["base"]["source"].removeprefix("run ")
    assert json.loads(out)["base"]["total_is"] == "mean latency"
    assert call("engines", "diff", run_id, engine)[0] == 0
    code, _, err = call("engines", "diff", "latest:no/such/case", engine)
    assert (code, CASE in err) == (ExitCode.USAGE, True)


def sums_hold(folder: Path) -> bool:
    lines = [line.split("  ") for line in (folder / "SHA256SUMS").read_text().splitlines()]
    names = {name for _, name in lines}
    others = {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    return names == others and all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for digest, name in lines
    )


def test_rollback_writes_a_bundle_that_loads_and_whose_checksums_hold(store, call, tmp_path):
    import onnxruntime

    code, out, _ = call("rollback", CASE, "--to", "good")
    folder = Path("good")
    assert code == 0
    assert "accepted: first" in out
    assert sums_hold(folder)
    assert {"model.onnx", "plan.toml", "versions.json", "README.md"} <= {path.name for path in folder.iterdir()}
    assert (folder / "plan.toml").read_text() == PLAN
    assert onnxruntime.InferenceSession(str(folder / "model.onnx")).get_inputs()
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["case"] == CASE
    assert versions["environment"]["facets"]["onnxruntime"] == versions["tool_version"]
    readme = (folder / "README.md").read_text()
    assert "sha256sum -c SHA256SUMS" in readme
    assert re.search(r"InferenceSession\('model.onnx'\)", readme)
    assert call("rollback", CASE, "--to", "good")[0] == ExitCode.USAGE
    code, out, _ = call("rollback", "fp32", "--to", "packed", "--tar", "--json")
    assert code == 0
    with tarfile.open(json.loads(out)["written"]) as archive:
        assert "packed/SHA256SUMS" in archive.getnames()


def test_rollback_refuses_another_machine_naming_both_and_force_warns(store, call, monkeypatch):
    other = Here(backend="onnxruntime", version="0.9", devices={"NVIDIA T4": "7.5"})
    monkeypatch.setattr(command, "here", lambda _: other)
    code, _, err = call("rollback", CASE, "--to", "good")
    assert (code, Path("good").exists()) == (ExitCode.USAGE, False)
    assert "NVIDIA T4" in err
    assert "onnxruntime 0.9" in err
    assert listed(call)[0]["device"] in err
    code, _, err = call("rollback", CASE, "--to", "good", "--force")
    assert (code, "warning" in err) == (0, True)
    assert "NVIDIA T4" in (Path("good") / "README.md").read_text()


def test_an_engine_that_is_gone_or_altered_is_not_given_and_its_plan_is(store, call):
    for folder in store.engines.iterdir():
        if folder.is_dir():
            content = (folder / "engine").read_bytes()
            (folder / "engine").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    code, _, err = call("rollback", CASE, "--to", "good")
    assert (code, Path("good").exists()) == (ExitCode.STORAGE, False)
    assert "checksum" in err
    shutil.rmtree(store.engines)
    code, _, err = call("rollback", CASE, "--to", "good")
    assert code == ExitCode.STORAGE
    said = " ".join(err.split())
    assert "not in the cache any more" in said
    assert f"enginewatch run good.plan.toml --case {CASE}" in said
    assert Path("good.plan.toml").read_text() == PLAN


def test_rollback_of_a_case_without_a_good_engine_says_how_to_get_one(store, call):
    code, _, err = call("rollback", "other")
    assert (code, CASE in err) == (ExitCode.USAGE, True)


def record(**changes: object) -> EngineRecord:
    facts = {"device": "NVIDIA H200", "compute_capability": "9.0", "tool_version": "10.3.0"} | changes
    return EngineRecord(engine_key="", engine_sha256="", path="", size_bytes=0, cached=False, **facts)


@pytest.mark.parametrize(
    ("devices", "version", "words"),
    [
        ({"NVIDIA H200": "9.0"}, "10.3.0", []),
        ({"NVIDIA H100": "9.0"}, "10.3.0", ["NVIDIA H200", "NVIDIA H100"]),
        ({"NVIDIA H200": "8.0"}, "10.3.0", ["capability 9.0", "is 8.0"]),
        ({"NVIDIA H200": "9.0"}, "10.4.0", ["trtexec 10.3.0", "trtexec 10.4.0"]),
        ({}, None, ["no GPU", "no trtexec"]),
    ],
)
def test_an_engine_fits_its_own_product_and_version_only(devices, version, words):
    found = "; ".join(misfits(record(), Here(backend="trtexec", version=version, devices=devices)))
    assert bool(found) == bool(words)
    assert all(word in found for word in words)


def built_for(**options: object) -> EngineRecord:
    return record(device="NVIDIA A100", compute_capability="8.0", details={"key_options": options})


@pytest.mark.parametrize(
    ("options", "version", "capability", "fits"),
    [
        ({"hardware_compatibility": "ampere+"}, "10.3.0", "9.0", True),
        ({"hardware_compatibility": "ampere+"}, "10.3.0", "12.0", True),
        ({"hardware_compatibility": "ampere+"}, "10.3.0", "7.5", False),
        ({"hardware_compatibility": "ampere+"}, "10.3.0", None, False),
        ({"hardware_compatibility": "sameComputeCapability"}, "10.3.0", "8.0", True),
        ({"hardware_compatibility": "sameComputeCapability"}, "10.3.0", "9.0", False),
        ({"hardware_compatibility": "none"}, "10.3.0", "8.0", False),
        ({"compute_capabilities": ["8.6", "8.9"]}, "10.3.0", "8.9", True),
        ({"hardware_compatibility": "ampere+"}, "10.9.0", "9.0", False),
        ({"hardware_compatibility": "ampere+", "version_compatible": True}, "10.9.0", "9.0", True),
        ({"hardware_compatibility": "ampere+", "version_compatible": True}, "11.0", "9.0", True),
        ({"hardware_compatibility": "ampere+", "version_compatible": True}, "10.2.9", "9.0", False),
        ({"hardware_compatibility": "ampere+", "version_compatible": True}, None, "9.0", False),
    ],
)
def test_an_engine_built_for_other_gpus_or_later_versions_fits_those(options, version, capability, fits):
    found = misfits(built_for(**options), Here(backend="trtexec", version=version, devices={"NVIDIA X": capability}))
    assert (found == ()) is fits


def test_what_is_not_known_of_an_engine_is_not_compared_and_that_is_told():
    bare = record(device=None, compute_capability=None, tool_version=None)
    assert misfits(bare, Here(backend="trtexec", version="1", devices={"GPU": None})) == ()
    assert [word in text for word, text in zip(("GPU", "version"), unknown(bare), strict=True)] == [True, True]
    assert unknown(record()) == ()


def test_the_command_that_loads_an_engine_has_its_shapes_and_plugins():
    ran = "trtexec --loadEngine=/x/engine --shapes=in:8x3 --warmUp=400 '--staticPlugins=/my libs/p.so' --device=0"
    assert load_flags(record(shapes={"in": [1, 3]}), ran) == " --shapes=in:8x3 '--staticPlugins=/my libs/p.so'"
    assert load_flags(record(shapes={"in": [1, 3]}), None) == " --shapes=in:1x3"
    assert load_flags(built_for(version_compatible=True), "trtexec --loadEngine=e") == " --versionCompatible"


def test_the_newest_last_good_engine_that_fits_is_chosen_and_the_others_are_told(capsys):
    def good(sha256: str, series: str) -> GoodEngine:
        facts = {"plan_name": "p", "case_key": CASE, "session_id": "", "why": "accepted: x", "marked_us": 0}
        return GoodEngine(engine_sha256=sha256, series_id=series, **facts)

    def engine(sha256: str, device: str) -> Engine:
        given = dataclasses.replace(record(device=device, compute_capability=None), engine_sha256=sha256)
        return Engine(record=given, entry=None, stored=True)

    marks = [good("new-l4", "b"), good("old-h200", "a")]
    engines = [engine("new-l4", "NVIDIA L4"), engine("old-h200", "NVIDIA H200")]

    def look(device: str) -> Callable[[str], Here]:
        return lambda backend: Here(backend=backend, version="10.3.0", devices={device: None})

    for device, sha256, other in (("H200", "old-h200", "L4"), ("L4", "new-l4", "H200"), ("T4", "new-l4", "H200")):
        assert command._choose(marks, CASE, engines, look(f"NVIDIA {device}")).engine_sha256 == sha256
        assert f"NVIDIA {other}" in capsys.readouterr().err


def test_the_docs_name_every_command_and_every_file_of_a_bundle(store, call):
    from enginewatch_harness.commands.engines import engines

    text = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    assert [name for name in engines.commands if f"enginewatch engines {name}" not in text] == []
    for folder in store.engines.glob("*/"):
        (folder / "build.trtexec-build.stdout.log").write_text("[I] Engine built")
        (folder / "timing.cache").write_bytes(b"tactics")
    call("rollback", CASE, "--to", "good")
    names = {path.name.replace("trtexec-build.stdout", "*") for path in Path("good").iterdir()}
    assert {"timing.cache", "build.*.log"} <= names
    assert [name for name in names if f"`{name}`" not in text] == []
    assert sums_hold(Path("good"))
