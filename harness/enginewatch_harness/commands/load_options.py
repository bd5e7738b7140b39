"""The options of ``enginewatch load`` that describe the load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from enginewatch_harness.commands.finite import FiniteRange
from enginewatch_harness.load.spec import MODES

Function = TypeVar("Function", bound=Callable[..., object])

_FILE = click.Path(exists=True, path_type=Path)

ARRIVALS = (
    click.option("--concurrency", metavar="LEVELS", help="Streams: 1,8,32 or 1-64 (doubling) [default: 1,8,32]."),
    click.option("--rate", metavar="LEVELS", help="Open loop: requests per second, as 2,4,8 or 1-16."),
    click.option(
        "--mode", type=click.Choice(MODES), help="How requests arrive [default: closed; poisson with --rate]."
    ),
    click.option(
        "--burstiness",
        type=FiniteRange(0, min_open=True),
        default=1.0,
        help="Of --mode gamma: 1 is Poisson, above is bursty.",
    ),
    click.option("--steps", metavar="RATE:S,...", help="Open loop with steps: 2:10,8:10 is 10 s of 2/s, 10 s of 8/s."),
    click.option("--dataset", type=_FILE, help="File of prompts, lengths or arrivals (JSONL, ShareGPT, Mooncake)."),
    click.option(
        "--dataset-format",
        type=click.Choice(["mooncake", "sharegpt", "jsonl"]),
        help="Of --dataset, where its content does not tell.",
    ),
    click.option("--speed", type=FiniteRange(0, min_open=True), default=1.0, help="A trace runs so many times faster."),
    click.option("--max-connections", type=click.IntRange(1), default=1024, help="Ceiling of an open loop."),
)
REQUESTS = (
    click.option("--isl", metavar="LENGTH", default="512", help="Prompt tokens: 512, uniform:128-512, normal:512:64."),
    click.option("--osl", metavar="LENGTH", default="128", help="Output tokens, likewise; also lognormal:, data."),
    click.option(
        "--prefixes", metavar="GROUPS:TOKENS", help="Prompts share prefixes: 8:256 is 8 groups of 256 tokens."
    ),
    click.option("--turns", type=click.IntRange(1), default=1, help="Turns of a conversation, with its history."),
    click.option("--think-time-s", type=FiniteRange(0), default=0.0, help="Mean pause of a stream between turns."),
    click.option("--tokenizer", type=_FILE, help="The model's tokenizer.json, or its folder: exact prompt lengths."),
)
MEASURE = (
    click.option("--requests", type=click.IntRange(1), help="Requests of a run, instead of a duration."),
    click.option("--duration-s", type=FiniteRange(0, min_open=True), default=10.0, help="Measuring time of each run."),
    click.option(
        "--warmup-s", type=FiniteRange(0), default=2.0, help="Load before the measuring time; it does not count."
    ),
    click.option("--repeats", type=click.IntRange(1), help="Runs of each level, interleaved [default: 3]."),
    click.option("--processes", type=click.IntRange(0), default=0, help="Client processes; 0: as many as needed."),
)
GOAL = (
    click.option("--slo", multiple=True, metavar="KEY=MS", help="Objective: ttft_ms=200, tpot_ms, itl_ms, e2e_ms."),
    click.option("--slo-share", type=FiniteRange(0, 100), default=95.0, help="Percent that must meet every --slo."),
    click.option("--find", type=click.Choice(["knee", "slo"]), help="Search: where throughput levels off, or the SLO."),
    click.option("--tolerance-pct", type=FiniteRange(1, 50), default=10.0, help="How exact a search is to be."),
    click.option("--max-runs", type=click.IntRange(1), default=30, help="Most runs of a search."),
)


def load_options(function: Function) -> Function:
    """Add the options of ``load_given.Given``."""
    for option in reversed((*ARRIVALS, *REQUESTS, *MEASURE, *GOAL)):
        function = option(function)
    return function
