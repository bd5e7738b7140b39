"""No parser crashes: any truncated, mutated or foreign file is imported or refused with one clear error."""

from __future__ import annotations

import copy
import dataclasses
import gzip
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.bundle import record_to_json
from enginewatch_db.errors import EnginewatchError, MeasurementError, UsageError
from enginewatch_db.tables import conform
from enginewatch_harness.importers import records, registry
from enginewatch_harness.importers.facts import Document
from enginewatch_harness.importers.records import Choices, Placed

DATA = Path(__file__).parents[1] / "data" / "harness" / "importers"
WHEN = "2026-11-21T00:00:00+00:00"
NUMBERS = (0, -1, 1, 10**12, 10**30, 1e308, -0.5, math.nan, math.inf)
OTHERS = (None, True, False, "", "x", "None", "2026-99-01", [], [[]], {}, [None], [1, "x"], {"avg": "x"})
ODD = st.sampled_from((*NUMBERS, *OTHERS, {"value": -1, "unit": "parsec"}))
SINGLE = ("guidellm-0.3-concurrent.json.gz", "vllm-0.20-c16-summary.json.gz", "vllm-0.20-c1.json.gz")
SINGLE += ("vllm-older-c1-no-starts.json.gz", "trtllm-1.2-report.json")
WITH_REQUESTS = {
    "aiperf-0.3-c2": ("profile_export_aiperf.json", "profile_export.jsonl"),
    "aiperf-0.13-poisson": ("profile_export_aiperf.json", "profile_export.jsonl"),
    "genai-perf-0.0.16-c3": ("profile_export_genai_perf.json", "profile_export.json"),
}
LOGS = sorted(path.name for path in DATA.glob("*.log"))


def text_of(name):
    """Return a fixture unpacked."""
    content = (DATA / name).read_bytes()
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode()


def small(value, length=3):
    """Return JSON with its lists cut, so that a mutation hits something that matters."""
    if isinstance(value, dict):
        return {key: small(item, length) for key, item in value.items()}
    return [small(item, length) for item in value[:length]] if isinstance(value, list) else value


def paths(value, prefix=()):
    """Return every path in a JSON value."""
    found = [prefix]
    if isinstance(value, dict):
        for key in value:
            found += paths(value[key], (*prefix, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            found += paths(value[index], (*prefix, index))
    return found


DOCUMENTS = {name: small(json.loads(text_of(name))) for name in SINGLE}
SUMMARIES = {name: small(json.loads(text_of(f"{name}/{files[0]}.gz"))) for name, files in WITH_REQUESTS.items()}
PATHS = {name: paths(value) for name, value in (DOCUMENTS | SUMMARIES).items()}
REQUESTS = {name: text_of(f"{name}/{files[1]}.gz") for name, files in WITH_REQUESTS.items()}


def document(text, **beside):
    """Return a document of this text."""
    return Document(name="f.json", text=text, sha256="0" * 64, modified_at=WHEN, beside=beside)


def clear(error):
    """Return a refusal after checking that it says what, where and what to do."""
    assert isinstance(error, UsageError | MeasurementError)
    assert error.remedy
    assert "f.json" in str(error) or "requests" in str(error)
    return error


def take(found):
    """Import a document as far as the files of its bundle, or return the clear error."""
    try:
        runs = registry.parse(registry.open_document(found))
    except EnginewatchError as refusal:
        return clear(refusal)
    for run in runs:
        placed = Placed(document=found, run=run, repeat=0, order_idx=0, session_id="s", session_started_at=WHEN)
        record, tables, _ = records.to_record(placed, Choices())
        json.dumps(record_to_json(record), allow_nan=False)
        for name, table in tables.items():
            conform(name, table)
    return runs


def mutated(value, path, odd):
    """Return a copy with one value replaced, or dropped where ``odd`` is the text ``x`` in an object."""
    if not path:
        return odd
    copied = copy.deepcopy(value)
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    if odd == "x" and isinstance(inner, dict):
        del inner[path[-1]]
    else:
        inner[path[-1]] = odd
    return copied


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", SINGLE)
def test_no_mutation_crashes_a_parser(name, data):
    value = mutated(DOCUMENTS[name], data.draw(st.sampled_from(PATHS[name])), data.draw(ODD))
    take(document(json.dumps(value)))


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", sorted(WITH_REQUESTS))
def test_no_mutation_of_a_summary_crashes_a_parser(name, data):
    value = mutated(SUMMARIES[name], data.draw(st.sampled_from(PATHS[name])), data.draw(ODD))
    beside = {"requests": REQUESTS[name]} if data.draw(st.booleans()) else {}
    take(document(json.dumps(value), **beside))


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", sorted(WITH_REQUESTS))
def test_no_mutation_of_the_single_requests_crashes_a_parser(name, data):
    lines = REQUESTS[name].splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    value = small(json.loads(lines[number]))
    value = mutated(value, data.draw(st.sampled_from(paths(value))), data.draw(ODD))
    lines[number] = json.dumps(value)
    take(document(json.dumps(SUMMARIES[name]), requests="\n".join(lines)))


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", SINGLE)
def test_a_cut_file_is_refused(name, data):
    text = json.dumps(DOCUMENTS[name])
    assert isinstance(take(document(text[: data.draw(st.integers(0, len(text) - 1))])), EnginewatchError)


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", LOGS)
def test_a_cut_log_is_refused_or_has_its_report(name, data):
    text = text_of(name)
    take(document(text[: data.draw(st.integers(0, len(text)))]))


@settings(max_examples=40, deadline=None)
@given(st.data())
@pytest.mark.parametrize("name", LOGS)
def test_no_damage_to_a_log_crashes_the_parser(name, data):
    lines = text_of(name).splitlines()
    for _ in range(data.draw(st.integers(1, 5))):
        number = data.draw(st.integers(0, len(lines) - 1))
        lines[number] = data.draw(
            st.one_of(st.text(max_size=30), st.just(lines[number][::-1]), st.just("TP Size: 1e9"))
        )
    take(document("\n".join(lines)))


@given(st.text(max_size=300))
def test_no_text_crashes_the_detection(text):
    assert isinstance(take(document(text)), EnginewatchError)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_no_json_crashes_the_detection(value):
    assert isinstance(take(document(json.dumps(value))), EnginewatchError)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        ('{"completed": 3, ', "is cut, or not JSON"),
        ("[" * 100_000, "no load generator|nested"),
        ("[11/20/2026-22:10:57] [TRT-LLM] [I] Starting\n", "no report: the benchmark failed, or the log is cut"),
        ("hello", "any load generator that is known here"),
        ('{"hello": 1}', "any load generator that is known here"),
        ('{"benchmarks": [], "metadata": {"guidellm_version": "0.8.1"}}', "it has no benchmark"),
        ('{"completed": 0, "duration": 1, "request_throughput": 0, "num_prompts": 4}', "none of 4 requests succeeded"),
        ('{"completed": 1, "duration": 1, "request_throughput": 1}\n{"completed": 1, "dur', "line 2: is not JSON"),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(text, words):
    with pytest.raises(EnginewatchError, match=words) as caught:
        registry.parse(registry.open_document(document(text)))
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("path", "odd"),
    [
        (("itls", 2), None),
        (("ttfts", 0), None),
        (("start_times", 1), "x"),
        (("itls", 0, 1), math.nan),
        (("max_concurrency",), math.nan),
        (("request_rate",), 1e308),
        (("input_lens", 0), 0.5),
        (("errors", 0), {}),
    ],
)
def test_damage_to_the_lists_of_a_result_is_refused(path, odd):
    refused = take(document(json.dumps(mutated(DOCUMENTS["vllm-0.20-c1.json.gz"], path, odd))))
    assert isinstance(refused, UsageError)


@pytest.mark.parametrize(("path", "odd"), [(("start_times", 0), None), (("ttfts", 0), None), (("itls", 0, 0), None)])
def test_damage_to_a_request_that_failed_is_refused_too(path, odd):
    failed = mutated(DOCUMENTS["vllm-0.20-c1.json.gz"], ("errors", 0), "ConnectionError: reset")
    assert not isinstance(take(document(json.dumps(failed))), EnginewatchError)
    refused = take(document(json.dumps(mutated(failed, path, odd))))
    assert isinstance(refused, UsageError)
    assert "is absent" in str(refused)


def test_a_cut_file_of_single_requests_is_refused_with_its_line():
    text = REQUESTS["aiperf-0.3-c2"]
    with pytest.raises(UsageError, match=r"requests, line \d+: is not JSON.*import the summary"):
        registry.parse(
            registry.open_document(document(json.dumps(SUMMARIES["aiperf-0.3-c2"]), requests=text[: len(text) - 40]))
        )


def test_a_tool_that_did_not_write_the_file_is_told():
    opened = registry.open_document(document(json.dumps(DOCUMENTS["vllm-0.20-c16-summary.json.gz"])))
    with pytest.raises(UsageError, match="is no result of guidellm"):
        registry.parse(opened, "guidellm")
    assert registry.parse(opened, "vllm")[0].tool == "vllm"


def test_the_id_of_a_run_comes_from_the_content_alone():
    found = document(json.dumps(DOCUMENTS["vllm-0.20-c16-summary.json.gz"]))
    (run,) = registry.parse(registry.open_document(found))
    moved = dataclasses.replace(found, name="elsewhere.json", modified_at="2027-01-01T00:00:00+00:00")
    changed = dataclasses.replace(found, sha256="1" * 64)
    assert records.run_id(found, run) == records.run_id(moved, run)
    assert records.run_id(found, run) != records.run_id(changed, run)
    assert records.run_id(found, run) != records.run_id(found, dataclasses.replace(run, place="line 2"))
