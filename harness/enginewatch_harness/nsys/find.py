"""Find Nsight Systems' command line, its version, and the options that it knows."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_harness.nsys.command import Nsys
from enginewatch_harness.process import run_tool

VARIABLE = "NSYS"
PLACES = (
    "/usr/local/cuda/bin/nsys",
    "/usr/local/bin/nsys",
    "/opt/nvidia/nsight-systems/*/bin/nsys",
    "/opt/nvidia/nsight-systems-cli/*/bin/nsys",
    "/opt/nvidia/nsight-systems/*/target-linux-*/nsys",
)
"""Where NVIDIA's packages and containers put it; of several versions the newest is taken."""

REMEDY = f"install NVIDIA's package nsight-systems-cli, or set {VARIABLE} to the path of nsys"
_TIMEOUT_S = 30.0
_VERSION = re.compile(r"version\s+(\d{4})\.(\d+)(?:\.(\d+))?", re.IGNORECASE)
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]+|-[a-zA-Z])(?=[\s,=\[<]|$)")


def find_nsys() -> Nsys:
    """Return the nsys to use: from NSYS, from PATH, or the newest in the usual places.

    Raises:
        NotAvailableError: There is none, or it cannot start.
    """
    asked = os.environ.get(VARIABLE)
    candidates = [asked] if asked else ["nsys", *_usual()]
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is not None:
            return _identify(str(Path(path).absolute()))
    where = f"{asked!r} is not an executable" if asked else "neither on PATH nor where NVIDIA's packages put it"
    raise NotAvailableError(f"nsys was not found: {where}", remedy=REMEDY)


def _usual() -> list[str]:
    found = []
    for place in PLACES:
        matches = Path("/").glob(place.removeprefix("/"))
        found += [str(path) for path in sorted(matches, key=_numbers, reverse=True)]
    return found


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", str(path))]


@cache
def _identify(path: str) -> Nsys:
    with tempfile.TemporaryDirectory(prefix="enginewatch-") as folder:
        said = _ask(path, ["--version"], Path(folder))
        version = parse_version(said)
        if version is None:
            words = (said.strip() or "it printed nothing").splitlines()[0][:200]
            raise NotAvailableError(f"{path} does not say its version: {words}", remedy=REMEDY)
        options = parse_options(_ask(path, ["profile", "--help"], Path(folder)))
    return Nsys(path=path, version=version, options=options)


def _ask(path: str, arguments: list[str], folder: Path) -> str:
    try:
        said = run_tool([path, *arguments], timeout_s=_TIMEOUT_S, log_prefix=folder / "asked")
    except (OSError, BackendError) as error:
        raise NotAvailableError(f"{path} {arguments[0]} failed: {error}", remedy=REMEDY) from error
    return (said.stdout + b"\n" + said.stderr).decode("utf-8", errors="replace")


def parse_version(text: str) -> tuple[int, int, int] | None:
    """Return (year, release, patch) from what ``nsys --version`` prints; ``None`` where it says none."""
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def parse_options(text: str) -> frozenset[str]:
    """Return the options that the help of ``nsys profile`` lists; empty where it lists none."""
    return frozenset(_OPTION.findall(text))
