"""The load tables of a plan file, and the loads that they declare. Pure."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.check import check_spec
from enginewatch_harness.load.lengths import mean_of
from enginewatch_harness.load.spec import CLOSED, Dataset, LoadSpec, Prefixes

OPEN_CEILING = 256
"""Connections that an open loop may hold unless the plan says otherwise."""

Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetTable(_Table):
    """``workload.load.dataset``: a file that requests come from."""

    path: str = Field(min_length=1, description="The file, relative to the plan file.")
    format: Literal["mooncake", "sharegpt", "jsonl"] | None = Field(
        default=None, description="Its format; without, it is found out from the content."
    )
    speed: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="A trace runs so many times faster.")


class PrefixTable(_Table):
    """``workload.load.prefixes``: prompts that begin alike."""

    groups: Positive = Field(description="How many different prefixes.")
    tokens: Positive = Field(description="Tokens of each prefix; part of the prompt's length.")


class StepTable(_Table):
    """``workload.load.steps``: one step of a rate that changes."""

    rate_rps: float = Field(ge=0, allow_inf_nan=False, description="Offered requests per second; 0 is a pause.")
    seconds: float = Field(gt=0, allow_inf_nan=False, description="How long the step lasts.")


class LoadTable(_Table):
    """``[[workload.load]]``: how requests arrive at a server."""

    mode: Literal["closed", "constant", "poisson", "gamma", "steps", "trace"] = Field(
        default="closed", description="Closed loop, or how requests arrive in an open loop."
    )
    concurrency: list[Positive] = Field(default_factory=list, description="Streams of the closed loop.")
    rate_rps: list[Rate] = Field(
        default_factory=list, description="Offered requests per second of constant, poisson and gamma."
    )
    ceiling: Positive = Field(default=OPEN_CEILING, description="Most requests in flight in an open loop.")
    isl: Positive = Field(default=64, description="Prompt tokens of a request; the mean with isl_dist.")
    osl: Positive = Field(default=32, description="Output tokens of a request; the mean with osl_dist.")
    isl_dist: str | None = Field(
        default=None, description="How isl varies: uniform:LOW-HIGH, normal:SD, lognormal:SIGMA or data."
    )
    osl_dist: str | None = Field(default=None, description="How osl varies, as isl_dist.")
    think_time_s: float = Field(
        default=0.0, ge=0, allow_inf_nan=False, description="Mean pause of a stream after an answer (exponential)."
    )
    burstiness: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="Coefficient of variation of the gaps of gamma and steps; 1 is Poisson.",
    )
    steps: list[StepTable] = Field(default_factory=list, description="Rates of mode steps, one after the other.")
    dataset: DatasetTable | None = Field(default=None, description="Prompts, lengths or arrivals from a file.")
    prefixes: PrefixTable | None = Field(default=None, description="Shared prefix groups.")
    turns: Positive = Field(default=1, description="Requests of a session, each with the history before it.")
    tokenizer: str | None = Field(
        default=None, description="tokenizer.json or its folder, relative to the plan file: exact prompt lengths."
    )
    processes: int = Field(default=1, ge=0, le=1024, description="Client processes; 0 takes as many as are needed.")
    slo: dict[str, float] = Field(
        default_factory=dict, description="Objectives of goodput in ms: ttft_ms, tpot_ms, itl_ms, e2e_ms."
    )

    @model_validator(mode="after")
    def _can_be_offered(self) -> LoadTable:
        if self.mode == CLOSED and (not self.concurrency or self.rate_rps):
            raise ValueError("a closed loop needs concurrency and no rate_rps")
        if self.mode != CLOSED and self.concurrency:
            raise ValueError(f"a {self.mode} load takes no concurrency; ceiling limits what is in flight")
        if self.mode in ("constant", "poisson", "gamma") and not self.rate_rps:
            raise ValueError(f"a {self.mode} load needs rate_rps and no concurrency")
        if self.mode in ("steps", "trace") and self.rate_rps:
            raise ValueError(f"a {self.mode} load takes no rate_rps: its {self.mode} say when requests arrive")
        for _, spec in profiles(self):
            try:
                check_spec(spec)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self


def profiles(table: LoadTable) -> tuple[tuple[str, LoadSpec], ...]:
    """Return the loads of a table with the part of the case's key that tells them apart.

    Paths are as the plan has them; ``resolved`` makes them absolute.
    """
    shared = _shared(table)
    tail = _tail(table)
    if table.mode == CLOSED:
        return tuple(
            (f"c{streams}{tail}", dataclasses.replace(shared, concurrency=streams)) for streams in table.concurrency
        )
    if table.rate_rps:
        burst = f"-b{table.burstiness:g}" if table.burstiness != 1 else ""
        return tuple(
            (f"{table.mode}{rate:g}rps{burst}{tail}", dataclasses.replace(shared, rate_rps=rate))
            for rate in table.rate_rps
        )
    return ((f"{_course(table)}{tail}", shared),)


def token_part(spec: LoadSpec) -> str:
    """Return the part of a case's key that says how long prompts and outputs are; a dataset says it by its name."""
    if spec.dataset is not None and spec.isl_dist is None and spec.osl_dist is None:
        return ""
    return f"-i{_lengths(spec.isl, spec.isl_dist)}o{_lengths(spec.osl, spec.osl_dist)}"


def resolved(spec: LoadSpec, folder: Path) -> LoadSpec:
    """Return a load whose paths are absolute: they are relative to ``folder`` in the plan."""
    dataset = spec.dataset
    if dataset is not None:
        dataset = dataclasses.replace(dataset, path=(folder / dataset.path).absolute())
    tokenizer = None if spec.tokenizer is None else (folder / spec.tokenizer).absolute()
    return dataclasses.replace(spec, dataset=dataset, tokenizer=tokenizer)


def _shared(table: LoadTable) -> LoadSpec:
    dataset = table.dataset
    return LoadSpec(
        mode=table.mode,
        concurrency=table.ceiling,
        isl=_mean(table, "isl"),
        osl=_mean(table, "osl"),
        think_time_s=table.think_time_s,
        burstiness=table.burstiness,
        steps=tuple((step.rate_rps, step.seconds) for step in table.steps),
        isl_dist=table.isl_dist,
        osl_dist=table.osl_dist,
        dataset=None
        if dataset is None
        else Dataset(path=Path(dataset.path), format=dataset.format, speed=dataset.speed),
        prefixes=None
        if table.prefixes is None
        else Prefixes(groups=table.prefixes.groups, tokens=table.prefixes.tokens),
        turns=table.turns,
        tokenizer=None if table.tokenizer is None else Path(table.tokenizer),
        processes=table.processes,
        slo=dict(table.slo),
    )


def _mean(table: LoadTable, name: str) -> int:
    """Return ``isl`` or ``osl``; where the plan leaves it out, the mean that a uniform distribution has."""
    given: int = getattr(table, name)
    stated = mean_of(getattr(table, f"{name}_dist"))
    return given if name in table.model_fields_set or stated is None else max(1, stated)


def _course(table: LoadTable) -> str:
    if table.mode == "trace":
        speed = table.dataset.speed if table.dataset else 1.0
        return "trace" if speed == 1 else f"trace-x{speed:g}"
    rates = [f"{step.rate_rps:g}" for step in table.steps]
    burst = f"-b{table.burstiness:g}" if table.burstiness != 1 else ""
    shown = "-".join(rates) if len(rates) <= 4 else f"{rates[0]}-{rates[-1]}x{len(rates)}"
    return f"steps{shown}rps{burst}"


def _tail(table: LoadTable) -> str:
    parts = []
    if table.think_time_s:
        parts.append(f"think{table.think_time_s:g}s")
    if table.turns > 1:
        parts.append(f"turns{table.turns}")
    if table.prefixes is not None:
        parts.append(f"prefix{table.prefixes.groups}x{table.prefixes.tokens}")
    if table.dataset is not None:
        parts.append(re.sub(r"[^A-Za-z0-9._]+", "_", Path(table.dataset.path).stem))
    return "".join(f"-{part}" for part in parts)


def _lengths(mean: int, text: str | None) -> str:
    if text is None:
        return str(mean)
    kind, _, rest = text.partition(":")
    return {"uniform": rest, "data": "data"}.get(kind, f"{mean}{kind}{rest}")
