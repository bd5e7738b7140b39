"""Load generators side by side against a server of known timing: ``python -m benchmarks load``; see README.md."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.load import clients, report
from benchmarks.load.clients import Client, Job
from benchmarks.load.host import CannotRun, Cores, build
from benchmarks.load.measure import Figures, measure, median
from enginewatch_db.errors import EnginewatchError

OWN = (clients.OURS, clients.C, clients.ASYNCIO)
PEERS = ("vllm", "aiperf", "guidellm")
ISL, OSL = 64, 128
STREAMS, QUICK_STREAMS = "1,32,128,512,1024", "32,1024"
TIMEOUT_S = 240.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks load", description=__doc__)
    parser.add_argument("--streams", help=f"levels of concurrency (default: {STREAMS}; quick: {QUICK_STREAMS})")
    parser.add_argument("--clients", default=",".join([*(c.name for c in OWN), *PEERS]), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, help="runs of each; the table shows medians (default: 2; quick: 1)")
    parser.add_argument("--rounds", type=int, default=3, help="requests per stream (default: %(default)s)")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="folder that --install-peers filled")
    parser.add_argument("--install-peers", type=Path, metavar="DIR", help="install the peers there, and end")
    parser.add_argument("--json", type=Path, help="write every run and the medians to this file")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of each run there")
    parser.add_argument("--quick", action="store_true", help="two levels, one run of each")
    return parser.parse_args()


def _chosen(names: str, peers: Path | None) -> list[Client]:
    found: dict[str, Client] = {client.name: client for client in OWN}
    chosen = []
    for name in names.split(","):
        if name in found:
            chosen.append(found[name])
        elif name not in PEERS:
            sys.exit(f"no client {name!r}; there are: {', '.join([*found, *PEERS])}")
    return chosen


def main() -> None:
    """Measure the clients, or install the peers."""
    given = _arguments()
    chosen = _chosen(given.clients, given.peers)
    levels = [int(part) for part in (given.streams or (QUICK_STREAMS if given.quick else STREAMS)).split(",")]
    repeats = given.repeats or (1 if given.quick else 2)
    try:
        with tempfile.TemporaryDirectory(prefix="load-benchmark-") as temporary:
            folder = (given.keep or Path(temporary)).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            _compare(chosen, levels, repeats, given.rounds, folder, given.json)
    except CannotRun as error:
        print(f"not run: {error}")


def _compare(
    chosen: list[Client], levels: list[int], repeats: int, rounds: int, folder: Path, json_to: Path | None
) -> None:
    cores, programs = Cores.of_this_machine(), build(folder)
    print(
        f"server on core {cores.server}, client on core {cores.client}; TTFT 50 ms, {OSL} tokens 10 ms apart; times in ms"
    )
    print(report.HEADER)
    runs: dict[tuple[int, str], list[Figures]] = {}
    table: report.Table = {}
    failed: list[dict[str, object]] = []
    for streams in levels:
        for client in chosen:
            for repeat in range(repeats):
                place = folder / f"{client.name}-{streams}-{repeat}"
                place.mkdir(exist_ok=True)
                job = Job(
                    url="",
                    port=0,
                    streams=streams,
                    requests=rounds * streams,
                    isl=ISL,
                    osl=OSL,
                    folder=place,
                    programs=programs,
                )
                try:
                    found = measure(client, job, cores, timeout_s=TIMEOUT_S)
                except (CannotRun, EnginewatchError, OSError, LookupError, ValueError) as error:
                    failed.append({"streams": streams, "client": client.name, "error": str(error)})
                    print(f"{streams:>7}  {client.label:<28}failed: {error}", flush=True)
                    break
                runs.setdefault((streams, client.name), []).append(found)
            if (streams, client.name) in runs:
                table[streams, client.name] = median(runs[streams, client.name])
                print(report.line(streams, client.label, table[streams, client.name]), flush=True)
    judged = report.goals(table)
    print(
        "ours over the C client's:",
        *report.ratios(table),
        "goals of issue 3:",
        *map(report.goal_line, judged),
        sep="\n",
    )
    if json_to is not None:
        json_to.write_text(_as_json(chosen, runs, table, failed, judged))


def _as_json(
    chosen: list[Client],
    runs: dict[tuple[int, str], list[Figures]],
    table: report.Table,
    failed: list[dict[str, object]],
    judged: list[dict[str, object]],
) -> str:
    found = {
        "host": {"machine": platform.machine(), "kernel": platform.release(), "python": platform.python_version()},
        "clients": {client.name: client.label for client in chosen},
        "medians": [{"streams": s, "client": c, **asdict(f)} for (s, c), f in table.items()],
        "runs": [{"streams": s, "client": c, **asdict(f)} for (s, c), fs in runs.items() for f in fs],
        "failed": failed,
        "goals": judged,
    }
    return json.dumps(found, indent=1) + "\n"
