"""Run every benchmark: ``python -m benchmarks [name ...]``. Each prints ratios measured within one run.

One name may be followed by options of that benchmark: ``python -m benchmarks load --quick``.
"""

from __future__ import annotations

import importlib
import itertools
import pkgutil
import sys
from pathlib import Path


def main() -> None:
    """Run the named benchmarks, or all of them."""
    names = sorted(
        module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.name[0] != "_"
    )
    given = list(itertools.takewhile(lambda part: not part.startswith("-"), sys.argv[1:]))
    options = sys.argv[1 + len(given) :]
    if options and len(given) != 1:
        sys.exit(f"options ({options[0]}) need the name of one benchmark before them")
    sys.argv[1:] = options
    chosen = given or names
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        sys.exit(f"no benchmark {unknown[0]!r}; there are: {', '.join(names)}")
    for name in chosen:
        print(f"== {name}")
        importlib.import_module(f"benchmarks.{name}").main()


if __name__ == "__main__":
    main()
