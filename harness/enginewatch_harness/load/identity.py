"""What of a load must be equal for two runs to be compared. Pure; integers in fixed units, no floats."""

from __future__ import annotations

from enginewatch_db.model import Json
from enginewatch_harness.load.spec import CLOSED, LoadSpec


def load_identity(spec: LoadSpec, *, dataset_sha256: str | None = None) -> Json:
    """Return the load's part of an identity.

    A load that uses mode, concurrency, rate and mean lengths alone gives these alone, so that series keep their id
    when the declaration learns something new. Left out on purpose: ``requests`` and ``processes`` (how long and with
    what is measured), paths, and ``slo`` (see ``slo_identity``).

    Args:
        spec: The load.
        dataset_sha256: Content hash of its dataset; a file with another content is another load.
    """
    load: Json = {"mode": spec.mode, "isl": spec.isl, "osl": spec.osl}
    if spec.rate_rps is not None:
        load["rate_mrps"] = _milli(spec.rate_rps)
    elif spec.mode == CLOSED:
        load["concurrency"] = spec.concurrency
    if spec.think_time_s:
        load["think_time_us"] = round(spec.think_time_s * 1_000_000)
    if spec.burstiness != 1:
        load["burstiness_milli"] = _milli(spec.burstiness)
    if spec.steps:
        load["steps"] = [{"rate_mrps": _milli(rate), "ms": _milli(seconds)} for rate, seconds in spec.steps]
    for name in ("isl_dist", "osl_dist"):
        if (text := getattr(spec, name)) is not None:
            load[name] = text
    if spec.dataset is not None:
        load["dataset"] = _without_none(
            name=spec.dataset.path.name,
            sha256=dataset_sha256,
            format=spec.dataset.format,
            speed_milli=None if spec.dataset.speed == 1 else _milli(spec.dataset.speed),
        )
    if spec.prefixes is not None:
        load["prefixes"] = {"groups": spec.prefixes.groups, "tokens": spec.prefixes.tokens}
    if spec.turns != 1:
        load["turns"] = spec.turns
    if spec.tokenizer is not None:
        load["exact_prompts"] = True
    return load


def slo_identity(spec: LoadSpec) -> Json:
    """Return the objectives for the identity's options; empty without any.

    They change no latency, but goodput under other objectives is another number and must not be compared.
    """
    return {"slo_us": {key: _milli(value) for key, value in sorted(spec.slo.items())}} if spec.slo else {}


def _milli(value: float) -> int:
    return round(value * 1000)


def _without_none(**facts: object) -> Json:
    return {name: value for name, value in facts.items() if value is not None}
