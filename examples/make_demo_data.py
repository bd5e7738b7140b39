"""Make the data of ``enginewatch demo`` from a folder of recordings.

    python examples/make_demo_data.py RECORDINGS [--into harness/enginewatch_harness/demo/data]

RECORDINGS holds what the tools wrote while one GPU was measured:

    h200-trtexec-8.6/NAME.stdout.log .stderr.log .rc .times.json[.gz] .profile.json .layers.json
    h200-trtexec-8.6/build-spread.json
    h200-vllm-0.20/bf16-NAME.json[.gz] bf16-models.json bf16-version.json bf16-server.log.gz
    h200-nvml/telemetry-trtexec.csv telemetry-vllm.csv nvml_probe.json nvidia-smi.txt

What it changes, and nothing else: query times become integer nanoseconds in Parquet (the files hold six
significant digits of milliseconds) without the warm-up's queries; telemetry becomes Parquet by the collector's own
reader; the texts that the language model wrote are dropped (random weights write noise), and its times are rounded
to the nanosecond of the clock they come from. Everything else is copied, compressed. Run twice, it writes the same
bytes.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from enginewatch_collector.backends.nvml_codes import dram_peak_gb_s
from enginewatch_collector.backends.replay import load_recording
from enginewatch_harness.demo.catalogue import BUILDS, ENGINE_RUNS, SERVER_RUNS
from enginewatch_harness.parse.trtexec_json import latency_samples, parse_times
from enginewatch_harness.parse.trtexec_log import parse_log

DATA = Path(__file__).parents[1] / "harness" / "enginewatch_harness" / "demo" / "data"
MAX_BYTES = 3_000_000


def main() -> None:
    """Read the recordings and write the data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder with h200-trtexec-8.6, h200-vllm-0.20, h200-nvml")
    parser.add_argument("--into", type=Path, default=DATA, help="folder to write (default: the package's own)")
    arguments = parser.parse_args()
    source, into = arguments.recordings, arguments.into
    for part in ("trtexec", "vllm", "telemetry"):
        shutil.rmtree(into / part, ignore_errors=True)
        (into / part).mkdir(parents=True)
    make_engines(source / "h200-trtexec-8.6", into / "trtexec")
    make_servers(source / "h200-vllm-0.20", into / "vllm")
    make_telemetry(source / "h200-nvml", into / "telemetry")
    write_json(into / "device.json", device_facts(source))
    size = sum(path.stat().st_size for path in into.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB in {into}")
    if size > MAX_BYTES:
        raise SystemExit(f"that is more than {MAX_BYTES / 1e6:g} MB")


def make_engines(source: Path, into: Path) -> None:
    """Engine runs and builds of trtexec."""
    exit_codes = {}
    for name in [*BUILDS.values(), *(run.name for run in ENGINE_RUNS)]:
        for stream in ("stdout", "stderr"):
            write_gzip(into / f"{name}.{stream}.log.gz", read(source / f"{name}.{stream}.log"))
        exit_codes[name] = int(read(source / f"{name}.rc"))
    for run in ENGINE_RUNS:
        log = parse_log(read(source / f"{run.name}.stdout.log"))
        times = parse_times(read(source / f"{run.name}.times.json").decode(), warmup_ms=log.options.warmup_ms or 0.0)
        write_parquet(into / f"{run.name}.times.parquet", latency_samples(times))
        if run.layers:
            for part in ("profile", "layers"):
                write_gzip(into / f"{run.name}.{part}.json.gz", read(source / f"{run.name}.{part}.json"))
    write_json(into / "exit-codes.json", exit_codes)
    write_gzip(into / "build-spread.json.gz", read(source / "build-spread.json"))


def make_servers(source: Path, into: Path) -> None:
    """Loads of ``vllm bench serve``, and what the server said of itself."""
    for run in SERVER_RUNS:
        content = json.loads(read(source / f"{run.name}.json"))
        del content["generated_texts"]
        for key in ("start_times", "ttfts", "itls"):
            content[key] = rounded(content[key])
        write_gzip(into / f"{run.name}.json.gz", compact(content).encode())
    for name in ("models", "version"):
        write_json(into / f"{name}.json", json.loads(read(source / f"bf16-{name}.json")))
    found = re.search(r"non-default args: (\{.*\})", read(source / "bf16-server.log").decode())
    write_json(into / "server-arguments.json", ast.literal_eval(found[1]) if found else {})


def make_telemetry(source: Path, into: Path) -> None:
    """Telemetry of both recordings, columns without a value left out."""
    for name in ("trtexec", "vllm"):
        table = load_recording(source / f"telemetry-{name}.csv")
        empty = [column for column in table.column_names if table.column(column).null_count == table.num_rows]
        write_parquet(into / f"{name}.parquet", table.drop_columns(empty))


def device_facts(source: Path) -> dict[str, Any]:
    """Facts of the GPU, as NVML and the tools told them; its serial number and UUID were removed before."""
    probe = json.loads(read(source / "h200-nvml" / "nvml_probe.json"))["static"]
    said = read(source / "h200-nvml" / "nvidia-smi.txt").decode()
    block = parse_log(read(source / "h200-trtexec-8.6" / f"{ENGINE_RUNS[0].name}.stdout.log")).device
    width, mem_clock = int(probe["bus_bits"]), int(probe["max_mem"])
    return {
        "name": probe["name"],
        "driver": probe["driver"],
        "cuda_driver": first(r"CUDA Version\s+: (\S+)", said),
        "compute_capability": list(ast.literal_eval(probe["cc"])),
        "sm_count": block.sms,
        "memory_mib": int(first(r"FB Memory Usage\s+Total\s+: (\d+) MiB", said)),
        "bus_width_bits": width,
        "max_sm_clock_mhz": int(probe["max_sm"]),
        "max_mem_clock_mhz": mem_clock,
        "dram_peak_gb_s": round(dram_peak_gb_s(mem_clock, width), 1),
        "power_limit_mw": int(probe["plimit_mw"]),
        "gpm": bool(probe["gpm"]),
    }


def first(pattern: str, text: str) -> str:
    """Return the first group of the first match."""
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"nothing matches {pattern!r}")
    return found[1]


def rounded(value: object) -> object:
    """Return times rounded to the nanosecond, in lists of any depth."""
    return [rounded(item) for item in value] if isinstance(value, list) else round(float(str(value)), 9)


def read(path: Path) -> bytes:
    """Return a file's content, compressed or not."""
    packed = path.with_name(path.name + ".gz")
    return gzip.decompress(packed.read_bytes()) if packed.is_file() else path.read_bytes()


def compact(value: object) -> str:
    """Return JSON without blanks."""
    return json.dumps(value, separators=(",", ":"))


def write_json(path: Path, value: object) -> None:
    """Write readable JSON."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_gzip(path: Path, content: bytes) -> None:
    """Write a compressed file without a time in it."""
    path.write_bytes(gzip.compress(content, 9, mtime=0))


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table without the columns that are all null."""
    kept = [column for column in table.column_names if table.column(column).null_count < table.num_rows]
    pq.write_table(table.select(kept), path, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
