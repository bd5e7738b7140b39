"""What the backends give a profiler to watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewatch_db.errors import PlanError
from enginewatch_harness.backends import tensorrt_options, torch_options, trtexec_options
from enginewatch_harness.backends.trtexec_command import trace_command
from enginewatch_harness.backends.trtexec_flags import Tool
from enginewatch_harness.backends.trtexec_options import TrtexecOptions


def flags(version, **options):
    tool = Tool(path="/bin/trtexec", version=version)
    return trace_command(tool, TrtexecOptions(**options), engine=Path("/e"), shapes={"a:0": (1, 3)}, inferences=50)


@pytest.mark.parametrize("version", ["8.6.1", "10.16.1", "11.1.0"])
def test_trtexec_runs_as_measured_for_so_many_inferences(version):
    found = flags(version, streams=2)
    assert {"--iterations=50", "--warmUp=0", "--loadEngine=/e", "--infStreams=2"} <= set(found)
    assert ("--useCudaGraph" in found) == (version != "11.1.0")
    assert not any(word.startswith(("--export", "--dump", "--saveEngine")) for word in found)
    duration = next(word for word in found if word.startswith("--duration="))
    assert 0 < float(duration.partition("=")[2]) < 0.1


def test_the_classic_protocol_is_traced_as_such():
    assert "--useCudaGraph" not in flags("10.16.1", protocol="classic")
    assert "--noCudaGraph" in flags("11.1.0", protocol="classic")


@pytest.mark.parametrize(
    "parse",
    [
        trtexec_options.parse_options,
        lambda options: tensorrt_options.parse_options(options, "tensorrt"),
        torch_options.parse_options,
    ],
)
def test_the_option_is_off_unless_asked_for(parse):
    assert parse({}).nsys is False
    assert parse({"nsys": True}).nsys is True
    with pytest.raises(PlanError, match="option nsys = 'yes' must be true or false"):
        parse({"nsys": "yes"})
