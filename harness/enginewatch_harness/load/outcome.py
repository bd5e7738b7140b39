"""What to say of a load without a result: an error that keeps what was measured."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from enginewatch_db.errors import BackendError
from enginewatch_harness.load.metrics import measured

if TYPE_CHECKING:
    import pyarrow as pa

PARTIAL = "llm_requests.partial.parquet"


def completed(requests: pa.Table) -> int:
    """Return how many requests of the measuring phase completed."""
    return int(measured(requests).num_rows)


def keep(requests: pa.Table, work_dir: Path) -> Path:
    """Write all requests into the run's folder, and return the file."""
    import pyarrow.parquet as pq

    path = work_dir / PARTIAL
    pq.write_table(requests, path)
    return path


def nothing_completed(requests: pa.Table, *, remedy: str) -> BackendError:
    """Return the error of a load of which no request completed in the measuring phase.

    Args:
        requests: All requests.
        remedy: What to do where requests failed.
    """
    errors = Counter(str(text) for text in requests["error"].to_pylist() if text)
    if errors:
        text, count = errors.most_common(1)[0]
        return BackendError(
            f"no request of the measuring phase completed; {count} of {requests.num_rows} say: {text}",
            code="load_failed",
            remedy=remedy,
        )
    return BackendError(
        "no request started and completed for the measuring phase",
        code="no_samples",
        remedy="raise duration_s, or the rate of the load",
    )
