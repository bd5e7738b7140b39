"""Which devices a launched server runs on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from enginewatch_harness.provenance import cpu_device, tool_output

GPU_ONLY = frozenset({"vllm", "sglang", "trtllm", "lmdeploy", "mlc", "nim", "triton"})
"""Servers that are taken to use the GPUs of a machine that has some, where its driver does not name their processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a server runs on.

    Attributes:
        name: Product.
        count: How many of it.
        where: How that is known.
        is_gpu: Whether it is a GPU.
    """

    name: str
    count: int
    where: str
    is_gpu: bool = False


def device_of(pids: Collection[int], *, family: str, count: int) -> Device:
    """Return the devices that these processes use.

    Args:
        pids: Processes of the server.
        family: Which server it is.
        count: GPUs that it was told to use.
    """
    inventory = _lines(["nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader"])
    if not inventory:
        return Device(name=cpu_device(), count=1, where="there is no GPU here")
    used = _lines(["nvidia-smi", "--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader"])
    return choose(inventory, used, pids, family=family, count=count)


def choose(
    inventory: Collection[tuple[str, str]],
    used: Collection[tuple[str, str]],
    pids: Collection[int],
    *,
    family: str,
    count: int,
) -> Device:
    """Return the devices by what the driver tells. Pure.

    Args:
        inventory: UUID and product of each GPU.
        used: Process id and UUID of each use; ids of another namespace where we are in a container.
        pids: Processes of the server.
        family: Which server it is.
        count: GPUs that it was told to use.
    """
    names = dict(inventory)
    own = {uuid for pid, uuid in used if pid.isdigit() and int(pid) in pids}
    if own:
        products = sorted({names.get(uuid, "GPU") for uuid in own})
        return Device(name=" + ".join(products), count=len(own), where="the driver's list of processes", is_gpu=True)
    if family in GPU_ONLY:
        first = next(iter(names.values()))
        where = "the machine's GPUs: the driver names no process of the server"
        return Device(name=first, count=count, where=where, is_gpu=True)
    return Device(name=cpu_device(), count=1, where="none of its processes is on a GPU")


def _lines(argv: list[str]) -> list[tuple[str, str]]:
    pairs = [line.partition(",") for line in (tool_output(argv) or "").splitlines()]
    return [(left.strip(), right.strip()) for left, comma, right in pairs if comma]
