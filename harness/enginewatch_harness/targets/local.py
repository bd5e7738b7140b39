"""Which processes of this machine are the server behind a URL."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

import psutil

FORWARDERS = frozenset(
    {
        "caddy",
        "docker-proxy",
        "envoy",
        "haproxy",
        "kubectl",
        "nginx",
        "pasta",
        "rootlessport",
        "socat",
        "ssh",
        "traefik",
    }
)
"""Programs that listen here for a server elsewhere, or in a container."""


def server_pids(url: str) -> frozenset[int]:
    """Return the processes of a server that listens on this machine; empty where it runs elsewhere, or none is seen.

    That is the process that listens, all that it started, and the same of its parent where that runs the same
    program: some servers start one process for the port and others for the GPUs, side by side. A program that only
    passes connections on (``FORWARDERS``) tells nothing of the server behind it.
    """
    parts = urlsplit(url)
    if parts.hostname is None or not _is_here(parts.hostname):
        return frozenset()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return frozenset()
    listening = {
        item.pid
        for item in found
        if item.status == psutil.CONN_LISTEN and item.laddr and item.laddr.port == port and item.pid is not None
    }
    return frozenset(pid for listener in listening for pid in _family(listener))


def _family(pid: int) -> set[int]:
    try:
        process = psutil.Process(pid)
        if process.name() in FORWARDERS:
            return set()
        parent = process.parent()
        if parent is not None and _program(parent) == _program(process):
            process = parent
        return {pid, process.pid, *(child.pid for child in process.children(recursive=True))}
    except psutil.Error:
        return {pid}


def _program(process: psutil.Process) -> tuple[str, ...]:
    """Return what tells one program from another that the same interpreter runs."""
    return tuple(process.cmdline()[:3]) or (process.name(),)


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host == socket.gethostname()
    if address.is_loopback or address.is_unspecified:
        return True
    return any(item.address == str(address) for items in psutil.net_if_addrs().values() for item in items)
