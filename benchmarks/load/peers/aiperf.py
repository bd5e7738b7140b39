"""AIPerf: about eight processes of one user's run, which pass records over ZeroMQ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.load.clients import Job
from benchmarks.load.peers import Peer
from benchmarks.load.truth import Seen


def _command(programs: Path, job: Job) -> list[str]:
    options = {
        "--model": "m",
        "--url": job.url,
        "--endpoint-type": "completions",
        "--tokenizer": job.tokenizer,
        "--isl": job.isl,
        "--isl-stddev": 0,
        "--osl": job.osl,
        "--osl-stddev": 0,
        "--concurrency": job.streams,
        "--request-count": job.requests,
        "--extra-inputs": "ignore_eos:true",
        "--export-level": "records",
        "--artifact-dir": job.folder / "aiperf",
        "--ui": "none",
    }
    # Server-side token counts spare it the tokenizing of every answer.
    flags = ["--streaming", "--use-server-token-count", "--no-gpu-telemetry", "--no-server-metrics"]
    return [str(programs / "aiperf"), "profile", *(str(part) for pair in options.items() for part in pair), *flags]


def _read(job: Job) -> list[Seen]:
    found = []
    for line in (job.folder / "aiperf" / "profile_export.jsonl").read_text().splitlines():
        row = json.loads(line)
        metrics, about = row["metrics"], row["metadata"]
        if "time_to_first_token" not in metrics or "request_latency" not in metrics:
            continue
        start_ns = about["request_start_ns"]
        gaps_ms = metrics.get("inter_chunk_latency", {}).get("value", [])
        found.append(
            Seen(
                key=about["x_request_id"],
                ttft_ns=round(metrics["time_to_first_token"]["value"] * 1e6),
                gaps_ns=np.round(np.asarray(gaps_ms, dtype=float) * 1e6).astype(np.int64),
                start_ns=start_ns,
                end_ns=start_ns + round(metrics["request_latency"]["value"] * 1e6),
            )
        )
    return found


PEER = Peer(
    name="aiperf",
    label="AIPerf",
    package="aiperf",
    installs=(("aiperf",),),
    command=_command,
    read=_read,
    # Offline it looks for every tokenizer in the hub's cache, local folders too.
    env={"HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": ""},
)
