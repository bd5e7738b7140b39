"""Do some inferences of an order for a profiler to watch. ``python -m enginewatch_harness.nsys.replay DIR COUNT``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from enginewatch_db.errors import BackendError, EnginewatchError
from enginewatch_harness.backends.base import Context, Repeats
from enginewatch_harness.backends.tensorrt_marks import marked
from enginewatch_harness.registry import backend
from enginewatch_harness.wire import read_order


def replay(folder: Path, inferences: int) -> None:
    """Do the inferences of the order in ``folder``, which no time is taken of.

    Raises:
        BackendError: The backend's own words.
    """
    order = read_order(folder)
    tool = backend(order.backend)
    if not isinstance(tool, Repeats):
        raise BackendError(f"{order.backend} cannot be watched", code="not_available")
    context = Context(
        work_dir=folder,
        t0_ns=time.monotonic_ns(),
        enter=lambda _: None,
        progress=lambda *_: None,
        cache_dir=order.cache_dir,
    )
    watch = marked("inferences")
    tool.repeat(order.job, order.engine, order.engine_path, context, inferences=inferences, watch=watch)


def main() -> int:
    """Run what the command line names."""
    try:
        replay(Path(sys.argv[1]), int(sys.argv[2]))
    except EnginewatchError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
