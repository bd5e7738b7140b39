"""What the collector process is told when it starts, and the names of its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from enginewatch_collector.backends.registry import BackendOptions

JOURNAL_FILE = "collector.journal.jsonl"
TABLE_FILE = "telemetry.parquet"
QUALITY_FILE = "collector.json"
LOG_FILE = "collector.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorConfig:
    """Options of one collector process.

    Attributes:
        out_dir: Folder of its files.
        backends: Names, see ``backends.registry``.
        rate_hz: Ticks per second.
        options: What the backends need to know; ``options.owner_pid`` is the process that started this one.
    """

    out_dir: Path
    backends: tuple[str, ...]
    rate_hz: float
    options: BackendOptions

    def to_json(self) -> str:
        """Return the text that ``from_json`` reads."""
        options = self.options
        return json.dumps(
            {
                "out_dir": str(self.out_dir),
                "backends": self.backends,
                "rate_hz": self.rate_hz,
                "owner_pid": options.owner_pid,
                "replay": None if options.replay is None else str(options.replay),
                "replay_phase": options.replay_phase,
                "seed": options.seed,
                "gpu_uuid": options.gpu_uuid,
                "gpu_instance": options.gpu_instance,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> CollectorConfig:
        """Return the configuration that ``to_json`` wrote."""
        data = json.loads(text)
        options = BackendOptions(
            owner_pid=data["owner_pid"],
            replay=None if data["replay"] is None else Path(data["replay"]),
            replay_phase=data["replay_phase"],
            seed=data["seed"],
            gpu_uuid=data["gpu_uuid"],
            gpu_instance=data["gpu_instance"],
        )
        return cls(
            out_dir=Path(data["out_dir"]), backends=tuple(data["backends"]), rate_hz=data["rate_hz"], options=options
        )
