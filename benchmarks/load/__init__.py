"""Load generators side by side against a server of known timing: ``python -m benchmarks load``; see README.md."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.load import clients, peers, report
from benchmarks.load.clients import Client, Job
from benchmarks.load.host import CannotRunError, Cores, build
from benchmarks.load.measure import Figures, measure, median
from enginewatch_db.errors import EnginewatchError

OWN = {client.name: client for client in (clients.OURS, clients.C, clients.ASYNCIO)}
PEERS = peers.every()
ISL, OSL = 64, 128
STREAMS, QUICK_STREAMS = "1,32,128,512,1024", "128,1024"
ROUNDS, QUICK_ROUNDS = 3, 2
LONG_STREAMS = 512
"""From here on a peer takes a round less: most need many times the time of the load, and the run shall stay short."""
TIMEOUT_S = 180.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks load", description=__doc__)
    parser.add_argument("--streams", help=f"levels of concurrency (default: {STREAMS}; quick: {QUICK_STREAMS})")
    parser.add_argument("--clients", default=",".join([*OWN, *PEERS]), help="default: %(default)s")
    parser.add_argument("--repeats", type=int, help="runs of each; the table shows medians (default: 2; quick: 1)")
    parser.add_argument("--rounds", type=int, help=f"requests per stream (default: {ROUNDS}; quick: {QUICK_ROUNDS})")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="folder that --install-peers filled")
    parser.add_argument("--install-peers", type=Path, metavar="DIR", help="install the peers there, and end")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run and the medians to this file")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the files of each run there")
    parser.add_argument("--quick", action="store_true", help="two levels, one run of each, fewer rounds")
    given = parser.parse_args()
    given.streams = given.streams or (QUICK_STREAMS if given.quick else STREAMS)
    given.repeats = given.repeats or (1 if given.quick else 2)
    given.rounds = given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS)
    if unknown := [name for name in given.clients.split(",") if name not in OWN | PEERS]:
        parser.error(f"no client {unknown[0]!r}; there are: {', '.join([*OWN, *PEERS])}")
    return given


def main() -> None:
    """Measure the clients, or install the peers."""
    given = _arguments()
    if given.install_peers is not None:
        peers.install(given.install_peers)
        return
    try:
        with tempfile.TemporaryDirectory(prefix="load-benchmark-") as temporary:
            folder = (given.keep or Path(temporary)).resolve()
            folder.mkdir(parents=True, exist_ok=True)
            _compare(given, folder)
    except CannotRunError as error:
        print(f"not run: {error}")


def _chosen(names: list[str], folder: Path | None) -> list[Client]:
    """Return the clients that can run; the others are told."""
    chosen = []
    for name in names:
        if name in OWN:
            chosen.append(OWN[name])
        elif folder is None:
            print(f"{name}: not measured, for want of --peers DIR")
        else:
            try:
                chosen.append(PEERS[name].client(folder))
            except CannotRunError as error:
                print(f"{name}: not measured: {error}")
    return chosen


@dataclass(slots=True, kw_only=True)
class _Found:
    """What was measured: runs and medians by (streams, client), and what failed."""

    runs: dict[tuple[int, str], list[Figures]] = field(default_factory=dict)
    table: report.Table = field(default_factory=dict)
    failed: list[dict[str, object]] = field(default_factory=list)


def _compare(given: argparse.Namespace, folder: Path) -> None:
    cores, programs = Cores.of_this_machine(), build(folder)
    chosen = _chosen(given.clients.split(","), given.peers)
    theirs = [client.name for client in chosen if client.name in PEERS]
    tokenizer = peers.make_tokenizer(folder, given.peers, theirs) if theirs else None
    print(f"server on core {cores.server}, client on core {cores.client}; TTFT 50 ms, {OSL} tokens 10 ms apart")
    print(report.HEADER)
    found = _Found()
    for streams in map(int, given.streams.split(",")):
        for client in chosen:
            rounds = given.rounds - (client.name in PEERS and streams >= LONG_STREAMS and given.rounds > 1)
            job = Job(
                url="",
                port=0,
                streams=streams,
                requests=rounds * streams,
                isl=ISL,
                osl=OSL,
                folder=folder,
                programs=programs,
                tokenizer=tokenizer,
            )
            _measure_level(client, job, cores, given.repeats, found)
    judged = report.goals(found.table)
    print("ours over the C client's:", *report.ratios(found.table), sep="\n")
    print("goals:", *map(report.goal_line, judged), sep="\n")
    if given.json is not None:
        given.json.write_text(_as_json(chosen, found, judged))


def _measure_level(client: Client, job: Job, cores: Cores, repeats: int, found: _Found) -> None:
    key = (job.streams, client.name)
    for repeat in range(repeats):
        place = job.folder / f"{client.name}-{job.streams}-{repeat}"
        place.mkdir(exist_ok=True)
        try:
            run = measure(client, job.at(folder=place), cores, timeout_s=TIMEOUT_S)
        except (CannotRunError, EnginewatchError, OSError, LookupError, ValueError, TypeError) as error:
            found.failed.append({"streams": job.streams, "client": client.name, "error": str(error)})
            print(f"{job.streams:>7}  {client.label:<28}failed: {error}", flush=True)
            break
        found.runs.setdefault(key, []).append(run)
    if key in found.runs:
        found.table[key] = median(found.runs[key])
        print(report.line(job.streams, client.label, found.table[key]), flush=True)


def _as_json(chosen: list[Client], found: _Found, judged: list[dict[str, object]]) -> str:
    document = {
        "host": {"machine": platform.machine(), "kernel": platform.release(), "python": platform.python_version()},
        "clients": {client.name: client.label for client in chosen},
        "medians": [{"streams": streams, "client": who, **asdict(run)} for (streams, who), run in found.table.items()],
        "runs": [
            {"streams": streams, "client": who, **asdict(run)}
            for (streams, who), runs in found.runs.items()
            for run in runs
        ],
        "failed": found.failed,
        "goals": judged,
    }
    return json.dumps(document, indent=1) + "\n"
