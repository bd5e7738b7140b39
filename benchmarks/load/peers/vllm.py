"""``vllm bench serve``: one asyncio process on aiohttp. Its benchmark needs a small part of vLLM only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.load.clients import Job
from benchmarks.load.peers import Peer
from benchmarks.load.truth import Seen

_IMPORTED = (
    "torch transformers numpy tqdm pyyaml regex aiohttp pybase64 pillow msgspec cbor2 psutil pyzmq urllib3 requests "
    "openai-harmony openai cachetools cloudpickle py-cpuinfo prometheus_client xgrammar fastapi partial-json-parser "
    "llguidance einops uvloop"
)
"""What ``vllm.benchmarks.serve`` imports of vLLM's hundred requirements; the others are GPU kernels and servers."""

_START = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "parser = argparse.ArgumentParser(); add_cli_args(parser); main(parser.parse_args())"
)
"""What ``vllm bench serve`` runs, without the other commands of its program, which import the whole server."""

_PREFIX = "bench-"


def _command(programs: Path, job: Job) -> list[str]:
    options = {
        "--backend": "openai",
        "--base-url": job.url,
        "--endpoint": "/v1/completions",
        "--model": "m",
        "--tokenizer": job.tokenizer,
        "--dataset-name": "random",
        "--random-input-len": job.isl,
        "--random-output-len": job.osl,
        "--num-prompts": job.requests,
        "--max-concurrency": job.streams,
        "--request-id-prefix": _PREFIX,
        "--ready-check-timeout-sec": 0,
        "--result-dir": job.folder,
        "--result-filename": "vllm.json",
    }
    flags = ["--ignore-eos", "--save-result", "--save-detailed", "--disable-tqdm"]
    return [str(programs / "python"), "-c", _START, *(str(part) for pair in options.items() for part in pair), *flags]


def _read(job: Job) -> list[Seen]:
    report = json.loads((job.folder / "vllm.json").read_text())
    found = []
    rows = zip(report["start_times"], report["ttfts"], report["itls"], report["output_lens"], strict=True)
    for number, (start, ttft, gaps, tokens) in enumerate(rows):
        if tokens < job.osl:
            continue
        start_ns, gaps_ns = round(start * 1e9), np.round(np.asarray(gaps) * 1e9).astype(np.int64)
        ttft_ns = round(ttft * 1e9)
        found.append(
            Seen(
                key=f"{_PREFIX}{number}",
                ttft_ns=ttft_ns,
                gaps_ns=gaps_ns,
                start_ns=start_ns,
                end_ns=start_ns + ttft_ns + int(gaps_ns.sum()),
            )
        )
    return found


PEER = Peer(
    name="vllm",
    label="vLLM bench serve",
    package="vllm",
    installs=(("--no-deps", "vllm"), tuple(_IMPORTED.split())),
    command=_command,
    read=_read,
    env={"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
)
