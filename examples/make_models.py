"""Write every built-in model as an ONNX file, for use with other tools: ``python examples/make_models.py FOLDER``."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from enginewatch_harness.models import GENERATORS, write_model


def main() -> None:
    """Write the models and print name, size, hash and input shapes of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write them")
    parser.add_argument("--kind", choices=sorted(GENERATORS), action="append", help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default 0)")
    arguments = parser.parse_args()
    for kind in arguments.kind or sorted(GENERATORS):
        path = write_model(kind, arguments.folder / f"{kind}.onnx", seed=arguments.seed)
        content = path.read_bytes()
        shapes = ", ".join(
            f"{name}: batch x {' x '.join(map(str, dims))}" for name, dims in GENERATORS[kind].inputs.items()
        )
        print(f"{path}  {len(content) / 2**20:.1f} MiB  sha256 {hashlib.sha256(content).hexdigest()[:12]}  {shapes}")


if __name__ == "__main__":
    main()
