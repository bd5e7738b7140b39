"""GuideLLM: processes of httpx on asyncio. It has no distribution of the gaps, and stamps with the wall clock."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.load.clients import Job
from benchmarks.load.peers import Peer
from benchmarks.load.truth import Seen


def _command(programs: Path, job: Job) -> list[str]:
    options = {
        "--backend": f"kind=openai_http,target={job.url},model=m,request_format=/v1/completions",
        "--profile": f"kind=concurrent,streams={job.streams}",
        "--constraint": f"kind=max_requests,count={job.requests}",
        "--tokenizer": f"kind=huggingface_auto,model={job.tokenizer}",
        "--data": f"kind=synthetic_text,prompt_tokens={job.isl},output_tokens={job.osl}",
        "--output": f"kind=json,path={job.folder / 'guidellm.json'}",
    }
    return [
        str(programs / "guidellm"), "run", *(part for pair in options.items() for part in pair), "--disable-console"
    ]  # fmt: skip


def _read(job: Job) -> list[Seen]:
    report = json.loads((job.folder / "guidellm.json").read_text())
    found = []
    for row in report["benchmarks"][0]["requests"]["successful"]:
        timings = row["info"]["timings"]
        found.append(
            Seen(
                # The mock server ends the id of an answer with the serial of its request.
                key=int(row["response_id"].rpartition("-")[2], 16),
                ttft_ns=round(row["time_to_first_token_ms"] * 1e6),
                gaps_ns=None,
                start_ns=round(row["request_start_time"] * 1e9),
                end_ns=round(timings["last_token_iteration"] * 1e9),
            )
        )
    return found


PEER = Peer(
    name="guidellm",
    label="GuideLLM",
    package="guidellm",
    installs=(("guidellm",),),
    command=_command,
    read=_read,
    env={},
)
