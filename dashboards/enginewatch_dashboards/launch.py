"""Start the dashboard: Streamlit in a child process, bound to loopback unless told otherwise."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click

from enginewatch_db.errors import ExitCode, UsageError

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8501
STORE_VARIABLE = "ENGINEWATCH_STORE"
APP = Path(__file__).with_name("app.py")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
READY_WAIT_S = 60.0
STOP_WAIT_S = 5.0
POLL_S = 0.1
MAX_PORT = 65_535
PORTS_TRIED = 50


def launch(workspace: Path, *, port: int = DEFAULT_PORT, host: str = DEFAULT_HOST, open_browser: bool = True) -> int:
    """Serve the dashboard of a store until Ctrl-C, and return the exit code.

    Args:
        workspace: Folder of the store; it need not exist yet.
        port: Port to listen on.
        host: Address to listen on; anything but loopback is reachable by others, without a login.
        open_browser: Whether a browser is opened once the server answers.

    Raises:
        UsageError: The port is taken, or the address is none of this machine.
    """
    check_address(host, port)
    child = subprocess.Popen(
        command(host, port), env={**os.environ, STORE_VARIABLE: str(workspace.absolute())}, cwd=APP.parent
    )
    with _stopping(child):
        if not _wait_until_ready(child, host, port):
            return child.returncode or int(ExitCode.FAILED)
        _announce(host, port, open_browser=open_browser)
        return child.wait()


def command(host: str, port: int) -> list[str]:
    """Return the command line of the server; the rest of its settings is in ``.streamlit/config.toml``."""
    settings = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "logger.hideWelcomeMessage": "true",
        "logger.level": "warning",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "streamlit", "run", str(APP), *flags]


def check_address(host: str, port: int) -> None:
    """Make sure that one can listen on an address.

    Raises:
        UsageError: The port is taken or reserved, or the address is none of this machine.
    """
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {host} is taken by another program",
                remedy=f"stop it, or use another port: enginewatch dashboard --port {_free_port(host, port)}",
            ) from error
        if error.errno == errno.EACCES:
            raise UsageError(f"port {port} is reserved for the administrator", remedy="use --port 8501") from error
        raise UsageError(
            f"cannot listen on {host!r}: {error.strerror or error}",
            remedy="give an address of this machine with --host, for example 127.0.0.1 or 0.0.0.0",
        ) from error


def _bind(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # As the server does: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _free_port(host: str, taken: int) -> int:
    for port in range(taken + 1, min(taken + PORTS_TRIED, MAX_PORT) + 1):
        try:
            _bind(host, port)
        except OSError:
            continue
        return port
    return DEFAULT_PORT


def _wait_until_ready(child: subprocess.Popen[bytes], host: str, port: int) -> bool:
    """Return whether the server answers; ``False`` when it ended or took longer than ``READY_WAIT_S``."""
    deadline = time.monotonic() + READY_WAIT_S
    while child.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url(host, port)}/_stcore/health", timeout=2):  # noqa: S310 - our own server
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_S)
    return False


def url(host: str, port: int) -> str:
    """Return the address to open in a browser on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _announce(host: str, port: int, *, open_browser: bool) -> None:
    click.echo(f"dashboard: {url(host, port)} (Ctrl-C ends it)", err=True)
    if host not in LOOPBACK:
        click.echo("whoever reaches this address can read the store: there is no login", err=True)
    if open_browser:
        webbrowser.open(url(host, port))


@contextmanager
def _stopping(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the child with this process: on Ctrl-C, on SIGTERM, and on any error."""

    def forward(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    # Handlers belong to the main thread; elsewhere the caller's process decides.
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, forward) if is_main else None
    try:
        yield
    except KeyboardInterrupt:
        # The way to end it, not a failure. A terminal has sent the signal to the child as well.
        click.echo("dashboard ended", err=True)
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)
        _stop(child)


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_WAIT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
