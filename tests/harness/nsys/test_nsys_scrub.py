"""Nothing of a person or a machine survives, in a scrubbed file and in what a run stores."""

from __future__ import annotations

import getpass
import socket

import pytest

from enginewatch_harness.nsys.profiled import profiled
from enginewatch_harness.nsys.scrub import PLACEHOLDER, Scrubber, local_words, private_words, scrub_report
from enginewatch_harness.nsys.sqlite import open_report, read_recording
from enginewatch_harness.nsys.summary import summarize

# In two parts: a test of the project refuses home folders in its files.
HOME = "/home/" + "alice"
SECRETS = (
    "hunter2-token",
    "build-box-17",
    "alice",
    HOME,
    "secret-project",
    "/srv/data/model.onnx",
    "S3CR3T_OUTPUT",
    "other_process",
)


@pytest.fixture
def private(export):
    """An export full of what nsys writes down beside the trace."""

    def make(schema: str = "3.16.1"):
        made = export(schema, "private.sqlite")
        environment = f"API_TOKEN=hunter2-token\0PWD={HOME}/secret-project\0LANG=C.UTF-8\0N=12345678"
        for name, value in (("Hostname", "build-box-17"), ("DeviceEnvironment", environment), ("CpuCores", "64")):
            made.add("TARGET_INFO_SYSTEM_ENV", devStateName="Local (CLI)", name=name, value=value)
        meta = "EXPORT_META_DATA" if schema.startswith("2.") else "META_DATA_CAPTURE"
        made.add(meta, name="PROCESS_0:COMMAND", value=f"{HOME}/secret-project/run.sh")
        made.add(meta, name="PROCESS_0:ARGUMENT_0", value="/srv/data/model.onnx")
        made.add(meta, name="PROCESS_0:ENVIRONMENT_VARIABLE", value="USER=alice")
        made.add(meta, name="EXPORT_HOST", value="build-box-17")
        made.add("PROCESSES", globalPid=1, pid=1, name="other_process")
        made.add("StringIds", id=100, value="S3CR3T_OUTPUT of the program")
        made.add("StringIds", id=101, value=f"/encoder/alice/MatMul + build-box-17 of {HOME}/secret-project")
        made.add("StringIds", id=103, value="kernel_of_alice_and_root")
        for index in range(52):
            at = made.base + index * 10_000
            made.add("NVTX_EVENTS", start=at, end=at + 900, eventType=59, textId=101, globalTid=made.tid)
            made.call(at + 100, at + 200, 5, index)
            made.kernel(at + 2_000, at + 7_000, 103 if index % 2 else 3, index)
        return made.close()

    return make


def leaks(blob: bytes) -> list[str]:
    """Return the secrets in a file; a word inside of another word is no name."""
    return [word for word in SECRETS if word.encode() in blob.replace(b"kernel_of_alice_and_root", b"")]


@pytest.mark.parametrize("schema", ["2.9.1", "3.16.1", "3.25.0"])
def test_a_scrubbed_report_keeps_the_summary_and_no_secret(private, tmp_path, schema):
    source = private(schema)
    assert len(leaks(source.read_bytes())) == len(SECRETS)
    target = tmp_path / "clean.sqlite"
    scrub_report(source, target)
    assert leaks(target.read_bytes()) == []
    before, after = read_recording(source), read_recording(target)
    assert (after.version, after.schema) == (before.version, before.schema)
    assert summarize(after, 50).busy_ns == summarize(before, 50).busy_ns
    assert {item.layer for item in after.work} == {f"/encoder/{PLACEHOLDER}/MatMul + {PLACEHOLDER} of {PLACEHOLDER}"}


def test_what_a_run_stores_has_no_secret(private):
    path = private()
    with open_report(path) as tables:
        scrubber = Scrubber(private_words(tables) | local_words())
    found = profiled(read_recording(path), 50, scrubber)
    stored = repr(found.tables["kernels"].to_pylist()) + repr(found.metrics) + repr(found.notes)
    assert leaks(stored.encode()) == []
    assert PLACEHOLDER in stored


def test_this_machine_is_private_too():
    words = local_words()
    assert socket.gethostname() in words
    assert getpass.getuser() in words
    scrubber = Scrubber({"build-box-17", "al", HOME, "root", "x"})
    assert (
        scrubber.name("/x/root + /al/x/almost on build-box-17") == f"/x/root + /{PLACEHOLDER}/x/almost on {PLACEHOLDER}"
    )
    assert (
        scrubber.message("cannot open /srv/data/a.onnx: gone, see ~/x/log") == "cannot open …/a.onnx: gone, see …/log"
    )
    assert Scrubber([]).name("anything") == "anything"
