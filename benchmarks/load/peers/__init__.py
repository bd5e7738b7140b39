"""Other load generators: each in a virtual environment of its own, driven by its own command line, never a dependency.

Everything that a peer reports is read from the file that it writes for its users. Options are chosen in its favour:
no telemetry, no dashboards, server-side token counts where it offers them.
"""

from __future__ import annotations

import contextlib
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.clients import Client, Job
from benchmarks.load.host import HERE, CannotRunError
from benchmarks.load.truth import Seen
from enginewatch_db.errors import EnginewatchError
from enginewatch_harness import process

INSTALL_TIMEOUT_S = 900.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""The tokenizer is a local folder; nothing may be looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A load generator from a package index.

    Attributes:
        name: What ``--clients`` calls it; its folder below the one given to ``--install-peers``.
        label: What the table calls it, before its version.
        package: The package whose version the table shows.
        installs: Argument lists of ``pip install``, in turn.
        command: Its command line for a job, from its folder of programs.
        read: Its report of a job's requests.
        env: Variables that it needs.
    """

    name: str
    label: str
    package: str
    installs: tuple[tuple[str, ...], ...]
    command: Callable[[Path, Job], list[str]]
    read: Callable[[Job], list[Seen]]
    env: dict[str, str]

    def client(self, folder: Path) -> Client:
        """Return it as a client, from the folder that it was installed below.

        Raises:
            CannotRunError: It is not there.
        """
        programs = (folder / self.name / "bin").resolve()
        if not (programs / "python").exists():
            raise CannotRunError(f"{self.name} is not in {folder}: python -m benchmarks load --install-peers {folder}")
        version = _version(folder / self.name, self.package)
        return Client(
            name=self.name,
            label=f"{self.label} {version}",
            command=lambda job: self.command(programs, job),
            read=self.read,
            env={**OFFLINE, **self.env},
        )


def _version(environment: Path, package: str) -> str:
    found = sorted(environment.glob(f"lib/python3*/site-packages/{package}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else "(unknown version)"


def every() -> dict[str, Peer]:
    """Return all peers by name."""
    from benchmarks.load.peers import aiperf, guidellm, vllm

    return {peer.name: peer for peer in (vllm.PEER, aiperf.PEER, guidellm.PEER)}


def install(folder: Path) -> None:
    """Install all peers below a folder; one that fails is told and left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for peer in every().values():
        began = time.monotonic()
        try:
            _install(peer, folder)
        except (CannotRunError, EnginewatchError, OSError) as error:
            print(f"{peer.name}: not installed: {error}", flush=True)
        else:
            version = _version(folder / peer.name, peer.package)
            print(f"{peer.name} {version}: installed in {time.monotonic() - began:.0f} s", flush=True)


def _install(peer: Peer, folder: Path) -> None:
    place = folder / peer.name
    venv.create(place, with_pip=True)
    for arguments in peer.installs:
        argv = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", *arguments]
        result = process.run_tool(argv, timeout_s=INSTALL_TIMEOUT_S, log_prefix=folder / f"{peer.name}-pip")
        if result.returncode:
            said = result.stderr.decode(errors="replace").strip() or "pip failed without a word"
            raise CannotRunError(said.splitlines()[-1][:300])


def make_tokenizer(folder: Path, peers: Path, names: list[str]) -> Path:
    """Train a tiny byte-level BPE tokenizer with the library that each peer brings along, and return its folder.

    Raises:
        CannotRunError: No peer's environment could.
    """
    place = folder / "tokenizer"
    place.mkdir(exist_ok=True)
    for name in names:
        argv = [str((peers / name / "bin/python").absolute()), str(HERE / "peers" / "make_tokenizer.py"), str(place)]
        with contextlib.suppress(EnginewatchError, OSError):
            if process.run_tool(argv, timeout_s=120, log_prefix=folder / "tokenizer-of").returncode == 0:
                return place
    raise CannotRunError(
        f"none of {', '.join(names)} could train the tokenizer: {process.tail(folder / 'tokenizer-of.stderr.log', 300)}"
    )
