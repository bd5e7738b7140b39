"""What the command line of ``enginewatch load`` says, and the load that it means. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.errors import UsageError
from enginewatch_db.model import Json
from enginewatch_harness.load import ladder
from enginewatch_harness.load.check import check_objective
from enginewatch_harness.load.spec import CLOSED, Dataset, LoadSpec, Prefixes

DEFAULT_LADDER = "1,8,32"
DEFAULT_RANGE = "1-256"
DEFAULT_RATES = "0.5-1000"
RATE_MODES = ("constant", "poisson", "gamma")
REPEATS = 3
LENGTH_FORMS = "512, uniform:128-512, normal:MEAN:SD, lognormal:MEAN:SIGMA, or data (data:MEAN)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The options that describe the load, as they were given; see ``load_options``."""

    concurrency: str | None = None
    rate: str | None = None
    mode: str | None = None
    burstiness: float = 1.0
    steps: str | None = None
    dataset: Path | None = None
    dataset_format: str | None = None
    speed: float = 1.0
    isl: str = "512"
    osl: str = "128"
    prefixes: str | None = None
    turns: int = 1
    think_time_s: float = 0.0
    tokenizer: Path | None = None
    processes: int = 0
    max_connections: int = 1024
    requests: int | None = None
    duration_s: float = 10.0
    warmup_s: float = 2.0
    repeats: int | None = None
    slo: tuple[str, ...] = ()
    slo_share: float = 95.0
    find: str | None = None
    tolerance_pct: float = 10.0
    max_runs: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Loads:
    """The loads of a ladder, or the range of a search.

    Attributes:
        levels: Streams, or requests per second; a single 0 where the load has its own times.
        mode: The mode of each.
        by_rate: Levels are rates.
        base: What all levels share.
    """

    levels: tuple[float, ...]
    mode: str
    by_rate: bool
    base: LoadSpec
    max_connections: int

    def spec(self, level: float) -> LoadSpec:
        """Return the load at a level."""
        from dataclasses import replace

        if self.by_rate:
            return replace(self.base, mode=self.mode, rate_rps=level, concurrency=self.max_connections)
        streams = self.max_connections if self.mode != CLOSED else round(level)
        return replace(self.base, mode=self.mode, concurrency=streams)


def loads_of(given: Given) -> Loads:
    """Return the loads that the options mean.

    Raises:
        UsageError: Options that contradict each other, or a value that cannot be read.
    """
    mode = _mode(given)
    if given.find is not None and mode in ("steps", "trace"):
        raise UsageError(f"--find needs levels, and --mode {mode} has its own times", remedy="leave one of them out")
    if given.find == "slo" and not given.slo:
        raise UsageError("--find slo needs an objective", remedy="for example --slo ttft_ms=200 --slo tpot_ms=20")
    isl, isl_dist = lengths_of(given.isl, "--isl")
    osl, osl_dist = lengths_of(given.osl, "--osl")
    base = LoadSpec(
        mode=mode,
        isl=isl,
        osl=osl,
        isl_dist=isl_dist,
        osl_dist=osl_dist,
        requests=given.requests,
        think_time_s=given.think_time_s,
        burstiness=given.burstiness,
        steps=steps_of(given.steps) if given.steps else (),
        dataset=_dataset(given),
        prefixes=prefixes_of(given.prefixes) if given.prefixes else None,
        turns=given.turns,
        tokenizer=given.tokenizer.absolute() if given.tokenizer else None,
        processes=given.processes,
        slo=slo_of(given.slo),
    )
    return Loads(
        levels=_levels(given, mode),
        mode=mode,
        by_rate=mode in RATE_MODES,
        base=base,
        max_connections=given.max_connections,
    )


def _mode(given: Given) -> str:
    if given.rate is not None and given.concurrency is not None:
        raise UsageError(
            "--rate and --concurrency exclude each other: an open loop sends without waiting for answers",
            remedy="leave one out; --max-connections limits the connections of an open loop",
        )
    implied = "steps" if given.steps else "poisson" if given.rate is not None else CLOSED
    mode = given.mode or implied
    if mode == CLOSED and given.rate is not None:
        raise UsageError("--mode closed takes no --rate", remedy="give --concurrency, or another mode")
    if mode != CLOSED and given.concurrency is not None:
        raise UsageError(f"--mode {mode} takes no --concurrency", remedy="give --rate; or --max-connections")
    if mode in RATE_MODES and given.rate is None and given.find is None:
        raise UsageError(f"--mode {mode} needs --rate", remedy="for example --rate 4, or --rate 1,2,4")
    if mode in ("steps", "trace") and given.rate is not None:
        raise UsageError(f"--mode {mode} takes no --rate: it has its own times", remedy="leave --rate out")
    return mode


def _levels(given: Given, mode: str) -> tuple[float, ...]:
    if mode == CLOSED:
        default = DEFAULT_RANGE if given.find else DEFAULT_LADDER
        return tuple(float(level) for level in ladder.concurrencies(given.concurrency or default))
    if mode in RATE_MODES:
        return ladder.rates(given.rate or DEFAULT_RATES)
    return (0.0,)


def _dataset(given: Given) -> Dataset | None:
    if given.dataset is None:
        if given.speed != 1.0 or given.dataset_format is not None:
            raise UsageError("--speed and --dataset-format belong to --dataset", remedy="give --dataset FILE")
        return None
    return Dataset(path=given.dataset.absolute(), format=given.dataset_format, speed=given.speed)


def lengths_of(text: str, option: str) -> tuple[int, str | None]:
    """Return the mean length in tokens and the distribution as ``LoadSpec`` spells it (``None``: fixed).

    Raises:
        UsageError: Names the option, the value and the forms.
    """
    matched = re.fullmatch(
        r"(?P<fixed>\d+)|uniform:(?P<low>\d+)-(?P<high>\d+)|(?P<kind>normal|lognormal):(?P<mean>\d+):(?P<spread>[\d.]+)"
        r"|data(?::(?P<data>\d+))?",
        text,
    )
    if matched is None:
        raise UsageError(f"{option} {text!r} is not a length", remedy=f"write {LENGTH_FORMS}")
    if matched["fixed"]:
        return int(matched["fixed"]), None
    if matched["low"]:
        return (int(matched["low"]) + int(matched["high"])) // 2, text
    if matched["kind"]:
        return int(matched["mean"]), f"{matched['kind']}:{matched['spread']}"
    return int(matched["data"] or 512), "data"


def steps_of(text: str) -> tuple[tuple[float, float], ...]:
    """Return rate and seconds of each step of ``RATE:SECONDS,...``.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        found = tuple((float(rate), float(seconds)) for rate, seconds in (part.split(":") for part in text.split(",")))
    except ValueError:
        raise UsageError(
            f"--steps {text!r} cannot be read", remedy="write RATE:SECONDS,... as 2:10,8:10,2:10"
        ) from None
    return found


def prefixes_of(text: str) -> Prefixes:
    """Return the prefix groups of ``GROUPS:TOKENS``.

    Raises:
        UsageError: It cannot be read.
    """
    matched = re.fullmatch(r"(\d+):(\d+)", text)
    if matched is None:
        raise UsageError(f"--prefixes {text!r} cannot be read", remedy="write GROUPS:TOKENS, for example 8:256")
    return Prefixes(groups=int(matched[1]), tokens=int(matched[2]))


def slo_of(texts: tuple[str, ...]) -> dict[str, float]:
    """Return the objectives of ``KEY=MS`` texts.

    Raises:
        UsageError: A text is not ``KEY=MS``, or not an objective that can be met.
    """
    found = {}
    for text in texts:
        key, _, value = text.partition("=")
        try:
            limit_ms = float(value)
        except ValueError:
            raise UsageError(f"--slo {text!r} is not KEY=MS", remedy="for example --slo ttft_ms=200") from None
        check_objective(key.strip(), limit_ms, place="--slo ")
        found[key.strip()] = limit_ms
    return found


def body_of(text: str | None) -> Json:
    """Return the JSON object of ``--body``.

    Raises:
        UsageError: It is no JSON object.
    """
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--body is not JSON: {error}", remedy="""for example --body '{"temperature": 0}'"""
        ) from error
    if not isinstance(found, dict):
        raise UsageError(f"--body must be a JSON object, not {text}", remedy="""write {"key": value}""")
    return found
