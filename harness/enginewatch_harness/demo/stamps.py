"""Ids, times, device and host of recorded runs: derived from the recording alone, so loading twice changes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from enginewatch_db import ids
from enginewatch_db.model import Json, RunRecord
from enginewatch_harness.assemble import Stamp, Telemetry
from enginewatch_harness.demo import files
from enginewatch_harness.demo.catalogue import HOSTNAME, ORIGIN
from enginewatch_harness.demo.placing import quality_of

if TYPE_CHECKING:
    import pyarrow as pa

DEVICE = "gpu0"
POWER_SOURCE = "power_usage_1s"
Parts = tuple[RunRecord, "dict[str, pa.Table]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that recorded runs are put into.

    Attributes:
        label: A REF for the command line.
        started_ns: Start of its first run, wall clock in ns since the epoch.
        repeats: Most repeats that a case has in it.
        environment: Facets of the software.
        notes: What a reader must know about the arrangement.
        origin: Where its runs come from.
    """

    plan: str
    label: str
    started_ns: int
    repeats: int
    environment: Json
    notes: tuple[str, ...] = ()
    origin: str = ORIGIN

    @property
    def session_id(self) -> str:
        """The id; sorts by the session's start."""
        return derived_id(self.started_ns, self.plan, self.label, files.fingerprint())

    def stamp(self, *, name: str, started_ns: int, repeat: int, order_idx: int) -> Stamp:
        """Return what is known about one of its runs before it is read."""
        return Stamp(
            run_id=derived_id(started_ns, self.plan, self.label, name, files.fingerprint()),
            session_id=self.session_id,
            plan_name=self.plan,
            repeat=repeat,
            order_idx=order_idx,
            started_at=iso(started_ns),
            environment=self.environment,
            host={"hostname": HOSTNAME, "gpu": device_facts()["name"]},
            session={
                "started_at": iso(self.started_ns),
                "label": self.label,
                "repeats": self.repeats,
                "plan_sha256": files.fingerprint(),
                "trigger": "demo",
                "recorded": self.origin,
                "notes": list(self.notes),
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A run that can be loaded: its stamp is cheap, its content is made on demand."""

    stamp: Stamp
    make: Callable[[], Parts] = field(repr=False)


def derived_id(unix_ns: int, *parts: str) -> str:
    """Return a version-7 UUID that sorts by ``unix_ns`` and whose other bits are a hash of ``parts``."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return str(ids.uuid7(unix_ns // 1_000_000, digest[:10]))


def iso(unix_ns: int) -> str:
    """Return a wall time as ISO 8601 in UTC, to the microsecond."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000).isoformat()


@cache
def device_facts() -> Json:
    """Return the facts of the recorded GPU, in the collector's words."""
    facts: Json = files.read_json("device.json")
    # The recorded power climbs for one second after a step of the load: it is the driver's mean over a second.
    return {"device": DEVICE, "source": "recording", "power_source": POWER_SOURCE, **facts}


def environment(**versions: str) -> Json:
    """Return the facets of the software that ran."""
    facts = device_facts()
    return {"os": "Linux", "gpu_driver": facts["driver"], "cuda_driver": facts["cuda_driver"], **versions}


def telemetry_of(rows: pa.Table) -> Telemetry:
    """Return recorded rows as what a collector would have brought."""
    facts = device_facts()
    limits = {DEVICE: {key: facts[key] for key in ("power_limit_mw", "max_sm_clock_mhz")}}
    quality = {**quality_of(rows.column("t_ns").to_numpy(), limits), "power_source": POWER_SOURCE}
    return Telemetry(table=rows, quality=quality, devices=(facts,))


def as_recorded(record: RunRecord, facts: Json) -> RunRecord:
    """Return the record with where it comes from in its provenance."""
    recorded = {"origin": record.session["recorded"], **facts}
    return dataclasses.replace(record, provenance={**record.provenance, "recorded": recorded})
