"""From the parts of a load to its result. Imported when the load is over: it needs NumPy and Arrow."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from enginewatch_db.model import Phase
from enginewatch_db.validity import Reason
from enginewatch_harness.load.judgement import judge_load
from enginewatch_harness.load.metrics import ClientStats
from enginewatch_harness.load.part import Account, Part
from enginewatch_harness.load.prompts import PromptLength
from enginewatch_harness.load.record import to_table
from enginewatch_harness.load.result import LoadResult
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.tokenizer import open_tokenizer
from enginewatch_harness.load.workload import Workload

CPU_MIN_WINDOW_NS = 100_000_000
"""A share of CPU over less than this says more about the scheduler's accounting than about the client."""


def sum_up(
    parts: Sequence[Part], spec: LoadSpec, workload: Workload, length: PromptLength | None, t0_ns: int
) -> LoadResult:
    """Return the result of a load.

    Args:
        parts: What each client process brought.
        spec: How requests arrived.
        workload: What they asked.
        length: How long prompts were; ``None`` where a tokenizer or a dataset made them.
        t0_ns: Origin of the run on the monotonic clock.
    """
    # Arrow's own pool keeps what it has freed, 40 MB after a million tokens; the system's gives it back.
    pa.set_memory_pool(pa.system_memory_pool())
    accounts = [account for account, _ in parts]
    begin_ns = min(account.begin_ns for account in accounts)
    end_ns = max([begin_ns, *(account.end_ns for account in accounts if account.end_ns is not None)])
    requests = to_table([columns for _, columns in parts], t0_ns, count_tokens=_answer_counter(spec))
    judged = judge_load(
        requests,
        spec,
        (begin_ns - t0_ns, end_ns - t0_ns),
        tuple(_stats(account, begin_ns, end_ns) for account in accounts),
        cores=len(os.sched_getaffinity(0)),
    )
    died = [account.server_died for account in accounts if account.server_died is not None]
    gave_up = [account.gave_up for account in accounts if account.gave_up is not None]
    notes = [*workload.notes, *judged.notes]
    if workload.estimated is not None and not any("is an estimate" in note for note in notes):
        notes.append(f"prompt length is an estimate: {workload.estimated}")
    if resent := sum(account.resent for account in accounts):
        notes.append(f"{resent} requests were sent again: the server had closed their idle connections")
    if gave_up:
        notes.append(f"the load was broken off: {gave_up[0]}")
    window_begin_ns, window_end_ns = judged.window_ns
    return LoadResult(
        requests=requests,
        window_ns=(window_begin_ns + t0_ns, window_end_ns + t0_ns),
        metrics=judged.metrics,
        reasons=(*judged.reasons, *(Reason(code="server_died", detail=detail) for detail in died[:1])),
        counts={
            **judged.counts,
            "resent": resent,
            **({} if length is None else {"prompt_words": length.words}),
        },
        notes=tuple(notes),
    )


def _answer_counter(spec: LoadSpec) -> Callable[[str], int] | None:
    if spec.tokenizer is None:
        return None
    return open_tokenizer(spec.tokenizer).count_answer


def _stats(account: Account, begin_ns: int, end_ns: int) -> ClientStats:
    due = np.asarray(account.tick_due_ns, dtype=np.int64)
    late = np.asarray(account.tick_late_ns, dtype=np.int64)
    inside = late[(due >= begin_ns) & (due < end_ns)]
    before, after = account.usage.get(Phase.MEASURE), account.usage.get(Phase.DRAIN)
    if before is None or after is None or after.at_ns - before.at_ns < CPU_MIN_WINDOW_NS:
        return ClientStats(process=account.process, cpu_pct=None, waited_pct=None, loop_lateness_ns=inside)
    wall_ns = after.at_ns - before.at_ns
    waited = None if after.waited_ns is None or before.waited_ns is None else after.waited_ns - before.waited_ns
    return ClientStats(
        process=account.process,
        cpu_pct=100 * (after.cpu_ns - before.cpu_ns) / wall_ns,
        waited_pct=None if waited is None else 100 * waited / wall_ns,
        loop_lateness_ns=inside,
    )
