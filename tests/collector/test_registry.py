import os
from pathlib import Path

import pytest

from enginewatch_collector.backends.registry import BackendOptions, choose, open_backends
from enginewatch_collector.quality import QualityLog
from enginewatch_db.errors import NotAvailableError, UsageError


@pytest.mark.parametrize(
    ("names", "replay", "chosen"),
    [
        (("auto",), False, ("host", "nvml")),
        (("auto",), True, ("host", "replay")),
        (("auto", "synthetic"), False, ("host", "nvml", "synthetic")),
        (("host",), True, ("host", "replay")),
        (("host", "auto", "host"), False, ("host", "nvml")),
        (("synthetic",), False, ("synthetic",)),
        (("replay",), True, ("replay",)),
    ],
)
def test_choose(names, replay, chosen):
    assert choose(names, replay=replay) == chosen


def test_an_unknown_backend_lists_the_known_ones():
    with pytest.raises(UsageError, match="unknown telemetry backend 'nvlm' → choose from auto, host, nvml"):
        choose(("nvlm",), replay=False)


def test_replay_needs_a_recording():
    with pytest.raises(UsageError, match="--replay FILE"):
        choose(("replay",), replay=False)


def test_auto_does_without_a_gpu_and_says_why(fake_nvml):
    fake_nvml.configure("gpus=0")
    log = QualityLog()
    backends = open_backends(("auto",), BackendOptions(owner_pid=os.getpid()), log)
    assert [backend.name for backend in backends] == ["host"]
    (event,) = log.events
    assert (event["kind"], event["backend"]) == ("backend_unavailable", "nvml")


def test_a_backend_that_was_named_must_be_there(fake_nvml):
    fake_nvml.configure("gpus=0")
    with pytest.raises(NotAvailableError):
        open_backends(("nvml",), BackendOptions(owner_pid=os.getpid()), QualityLog())


def test_a_missing_recording_is_never_ignored():
    options = BackendOptions(owner_pid=os.getpid(), replay=Path("none.csv"))
    with pytest.raises(NotAvailableError, match=r"none\.csv"):
        open_backends(("auto",), options, QualityLog())
