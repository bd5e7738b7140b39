import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginewatch_collector.backends.replay import ReplayBackend, load_recording
from enginewatch_collector.quality import QualityLog
from enginewatch_collector.recording import parse_recording, parse_seconds
from enginewatch_db.errors import NotAvailableError, UsageError
from enginewatch_db.tables import TELEMETRY

S = 1_000_000_000
HEADER = "t,phase,sm_util,power_mw,energy_mj,mem_used\n"


@given(ns=st.integers(0, 2**62))
def test_seconds_become_ns_without_loss(ns):
    assert parse_seconds(f"{ns // S}.{ns % S:09d}") == ns


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "-1", "1e9"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="no time in seconds"):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("name", "phases", "rows"),
    [
        ("telemetry-trtexec.csv", {"resnet50-fp16-b1", "resnet50-fp16-b32", "idle"}, 141),
        ("telemetry-vllm.csv", {"bf16-c1-rinf", "bf16-c256-rinf"}, 348),
    ],
)
def test_both_recordings_of_an_h200_load(data_folder, name, phases, rows):
    table = load_recording(data_folder / name)
    assert table.schema == TELEMETRY
    assert table.num_rows == rows
    assert set(table.column("phase").to_pylist()) == phases
    for column in ("sm_active_pct", "tensor_active_pct", "dram_bw_pct_of_peak", "pcie_rx_mib_s", "gpu_mem_used_mib"):
        assert table.column(column).null_count == 0, column
    # one of the two was recorded without these
    assert table.column("mem_clock_mhz").null_count in (0, rows)


def test_the_first_row_as_recorded(data_folder):
    row = load_recording(data_folder / "telemetry-vllm.csv", phase="bf16-c256-rinf").to_pylist()[0]
    line = next(
        line for line in (data_folder / "telemetry-vllm.csv").read_text().splitlines() if ",bf16-c256-rinf," in line
    )
    cells = line.split(",")
    assert row["t_ns"] == int(cells[0].replace(".", "").ljust(19, "0"))
    assert row["tensor_active_pct"] == pytest.approx(float(cells[5]))
    assert row["energy_mj"] == int(cells[13])
    assert row["gpu_mem_used_mib"] == int(cells[-1]) // 1024**2
    assert (row["source"], row["device"], row["phase"]) == ("replay", "gpu0", "bf16-c256-rinf")


def test_empty_and_nan_cells_are_absent():
    (row,) = parse_recording(io.StringIO(HEADER + "5.5,,nan,100,,\n"), "x.csv")
    assert (row.t_ns, row.phase, row.values) == (5_500_000_000, None, {"power_mw": 100})


def test_rows_come_out_by_time():
    rows = parse_recording(io.StringIO(HEADER + "9,b,1,1,1,1\n5,a,1,1,1,1\n"), "x.csv")
    assert [row.phase for row in rows] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("t,sm_utill\n1,2\n", r"unknown column 'sm_utill' → rename it to 'sm_util'"),
        ("t,zzz\n1,2\n", r"unknown column 'zzz' → known columns"),
        ("sm_util\n1\n", r"no column 't'"),
        (HEADER, r"holds no rows"),
        (HEADER + "1,a,x,1,1,1\n", r"line 2: could not convert"),
        (HEADER + "1,a,1\n", r"line 2"),
        (HEADER + "1,a,1,1,1,1,1\n", r"line 2"),
    ],
)
def test_a_recording_that_cannot_be_read_says_where(text, message):
    with pytest.raises(UsageError, match=message):
        parse_recording(io.StringIO(text), "x.csv")


def test_an_unknown_phase_names_the_known_ones(data_folder):
    with pytest.raises(UsageError, match="bf16-c1-rinf, bf16-c256-rinf"):
        load_recording(data_folder / "telemetry-vllm.csv", phase="warm")


class Clock:
    now_ns = 7 * S

    def __call__(self):
        return self.now_ns


@pytest.fixture
def replay(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text(HEADER + "100.0,a,1,10,1000,0\n100.1,a,2,20,1050,0\n100.2,a,3,30,1100,0\n")
    clock, log = Clock(), QualityLog()
    backend = ReplayBackend(path, clock=clock)
    backend.open(log)

    def at(seconds):
        clock.now_ns = 7 * S + round(seconds * S)
        (reading,) = backend.read_fast()
        return reading.values["power_mw"], reading.values["energy_mj"], reading.t_ns - 7 * S

    return at, log, backend


def test_rows_are_played_at_their_time(replay):
    at, log, backend = replay
    assert at(0) == (10, 1000, 0)
    assert at(0.099) == (10, 1000, 99_000_000)
    assert at(0.1) == (20, 1050, 100_000_000)
    assert at(0.25)[:2] == (30, 1100)
    assert log.events == []
    assert backend.devices()[0]["duration_s"] == pytest.approx(0.2)


def test_a_recording_that_ends_starts_again_and_counters_go_on(replay):
    at, log, _ = replay
    at(0.2)
    assert at(0.31)[:2] == (10, 1100)
    assert at(0.45)[:2] == (20, 1150)
    assert at(0.91)[:2] == (10, 1300)
    assert [event["kind"] for event in log.events] == ["replay_restarted"]


def test_a_missing_recording_is_not_available(tmp_path):
    with pytest.raises(NotAvailableError, match=r"none\.csv"):
        ReplayBackend(tmp_path / "none.csv").open(QualityLog())
