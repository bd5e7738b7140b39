"""Put a load on a server by hand: ``python -m enginewatch_harness.load --url http://127.0.0.1:8000 --model m``.

Prints the metrics as JSON; ``--requests-to FILE`` keeps every request as Parquet. ``--spec`` gives what the flags
have no words for, with the keys of a plan's load.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from enginewatch_db.errors import EnginewatchError, UsageError
from enginewatch_harness.lean import leave_out_pandas
from enginewatch_harness.load.endpoints import ENDPOINTS
from enginewatch_harness.load.generator import run_load
from enginewatch_harness.load.result import LoadResult
from enginewatch_harness.load.spec import MODES, LoadSpec
from enginewatch_harness.load.target import Target

FLAGS = {"mode": "closed", "concurrency": 1, "rate_rps": None, "isl": 64, "osl": 32, "requests": None, "processes": 1}
"""The fields of a spec that have a flag, and the flag's default."""


def spec_of(given: argparse.Namespace) -> LoadSpec:
    """Return what was asked for.

    Raises:
        UsageError: ``--spec`` is no load, or a flag says the same thing beside it.
    """
    if given.spec is None:
        return LoadSpec(**{name: getattr(given, name) for name in FLAGS})
    twice = [name for name, default in FLAGS.items() if getattr(given, name) != default]
    if twice:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in twice)
        raise UsageError(f"{named} beside --spec", remedy="put it into the spec")
    # pydantic is 0.1 s and some 20 MB, which a load told by flags does not need.
    from enginewatch_harness.load.spec_json import read_spec

    return read_spec(given.spec)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m enginewatch_harness.load", description=__doc__.split("\n")[0])
    parser.add_argument("--url", required=True, help="root of the server: http://host:port")
    parser.add_argument("--model", required=True, help="name of the served model")
    parser.add_argument("--endpoint", choices=ENDPOINTS, default="completions")
    parser.add_argument("--mode", choices=MODES, default=FLAGS["mode"])
    parser.add_argument(
        "--concurrency", type=int, default=FLAGS["concurrency"], help="streams, or the ceiling of the open loop"
    )
    parser.add_argument("--rate-rps", type=float, help="offered requests per second of the open loop")
    parser.add_argument("--isl", type=int, default=FLAGS["isl"], help="prompt tokens")
    parser.add_argument("--osl", type=int, default=FLAGS["osl"], help="output tokens")
    parser.add_argument("--requests", type=int, help="requests in the measuring phase, instead of a duration")
    parser.add_argument("--warmup-s", type=float, default=1.0)
    parser.add_argument("--duration-s", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=FLAGS["processes"], help="client processes; 0: as needed")
    parser.add_argument("--spec", help="the whole load as a JSON object, instead of the flags above")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--body", type=json.loads, default={}, help="JSON object with more fields of each request")
    parser.add_argument("--requests-to", type=Path, help="write every request to this Parquet file")
    return parser


def as_json(result: LoadResult) -> str:
    """Return metrics, reasons, counts and notes of a load as JSON."""
    found = {
        "metrics": {item.metric: asdict(item) for item in result.metrics},
        "reasons": [asdict(reason) for reason in result.reasons],
        "counts": result.counts,
        "notes": result.notes,
    }
    return json.dumps(found, indent=2)


def main(argv: list[str] | None = None) -> int:
    """Run one load; the exit status is that of the error tree."""
    given = _parser().parse_args(argv)
    try:
        result = run_load(
            Target(url=given.url, model=given.model, endpoint=given.endpoint, body=given.body),
            spec_of(given),
            warmup_s=given.warmup_s,
            duration_s=given.duration_s,
            seed=given.seed,
            t0_ns=time.monotonic_ns(),
        )
    except EnginewatchError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    if given.requests_to is not None:
        import pyarrow.parquet as pq

        pq.write_table(result.requests, given.requests_to)
    sys.stdout.write(as_json(result) + "\n")
    return 0


if __name__ == "__main__":
    leave_out_pandas()
    sys.exit(main())
