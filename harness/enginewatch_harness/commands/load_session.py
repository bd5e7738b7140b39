"""One load test: from the command line to a session, and from its runs to the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.table import Table

from enginewatch_db.model import Json, RunRecord, RunStatus
from enginewatch_db.workspace import Workspace
from enginewatch_harness import events
from enginewatch_harness.backends.openai_options import headers_of, parse_options
from enginewatch_harness.commands import load_summary
from enginewatch_harness.commands.load_cases import (
    CaseMaker,
    LadderSource,
    SearchSource,
    attained_of,
    name_of,
    throughput_of,
    value_of,
)
from enginewatch_harness.commands.load_given import REPEATS, Given, Loads, body_of, loads_of
from enginewatch_harness.commands.load_live import make_live
from enginewatch_harness.commands.load_rows import Row, rows_of, table_of
from enginewatch_harness.commands.load_server import Server, find_server, root_url
from enginewatch_harness.console import out
from enginewatch_harness.load.calibrate_run import shown_limit
from enginewatch_harness.load.check import check_spec
from enginewatch_harness.load.generator import check_target
from enginewatch_harness.load.knee import MIN_LEVELS, Knee, NoKnee, Point, find_knee
from enginewatch_harness.load.search import KneeSearch, Limits, SloSearch
from enginewatch_harness.load.synthetic import prepare_workload
from enginewatch_harness.load.target import Target
from enginewatch_harness.plan_file import MeasureTable, ModelTable, PlanFile
from enginewatch_harness.progress import clock
from enginewatch_harness.session import run_session
from enginewatch_harness.session_request import SessionOutcome, SessionRequest

REQUESTS_LIMIT_S = 3600.0
"""A run that ends after so many requests may take this long."""

START_AND_END_S = 60.0


@dataclass(slots=True, kw_only=True)
class LoadTest:
    """A load test that is ready to run.

    Attributes:
        server: What it goes to.
        given: The load as it was asked for.
        source: What decides the levels.
        search: The search behind it, where there is one.
        request: The session's request.
        heard: Runs that finished so far.
    """

    server: Server
    given: Given
    loads: Loads
    source: LadderSource | SearchSource[Any]
    search: KneeSearch | SloSearch | None
    request: SessionRequest
    heard: list[RunRecord] = field(default_factory=list)

    def run(self, workspace: Workspace, kind: str) -> SessionOutcome:
        """Run the session and show it; ``kind`` as ``--progress`` has it."""
        about = f"load on {self.server.url}, model {self.server.model} ({self.server.family})"
        with make_live(kind, self.source.cases, with_slo=self._with_slo, about=about) as show:

            def listen(event: events.Event) -> None:
                if isinstance(event, events.RunFinished):
                    self.heard.append(event.record)
                show(event)

            return run_session(self.request, workspace, listen)

    @property
    def answered(self) -> bool:
        """Whether a search found its answer."""
        if isinstance(self.search, SloSearch):
            return self.search.answer().closed
        return self.search is not None and isinstance(self.search.answer, Knee)

    @property
    def _with_slo(self) -> bool:
        return bool(self.loads.base.slo)

    def table(self, records: tuple[RunRecord, ...]) -> Table:
        """Return the table of levels."""
        return table_of(rows_of(records, self.source.cases), with_slo=self._with_slo, width=out.width)

    def found(self, records: tuple[RunRecord, ...]) -> load_summary.Found:
        """Return what the runs say."""
        rows = tuple(rows_of(records, self.source.cases))
        return load_summary.Found(
            rows=rows,
            by_rate=self.loads.by_rate,
            search=self.search,
            knee=self._knee(rows),
            slo=self.loads.base.slo,
            slo_share=self.given.slo_share,
        )

    def _knee(self, rows: tuple[Row, ...]) -> Knee | NoKnee | None:
        if isinstance(self.search, KneeSearch):
            return self.search.answer
        if self.search is not None or len(rows) < MIN_LEVELS:
            return None
        by_rate = self.loads.by_rate
        values = [(row.load, throughput_of(record, by_rate=by_rate)) for row in rows for record in row.records]
        return find_knee([Point(load=load, throughput=value) for load, value in values if value is not None])

    def answer_lines(self, records: tuple[RunRecord, ...]) -> list[str]:
        """Return the summary: frontier, knee, SLO."""
        found = self.found(records)
        return [
            *load_summary.frontier_lines(found),
            *load_summary.knee_lines(found),
            *load_summary.slo_lines(found),
        ]

    def closing(self, outcome: SessionOutcome, workspace: Workspace | None) -> list[str]:
        """Return the last lines: what does not count and why, where the runs are, how to see them."""
        lines = load_summary.trouble_lines(outcome.records)
        lines += [f"quarantined {name}: {reason}" for name, reason in outcome.ingested.quarantined.items()]
        worked = sum(record.status is RunStatus.OK for record in outcome.records)
        lines += self._within(outcome.records, workspace)
        lines.append(f"session {outcome.session_id}: {worked} of {len(outcome.records)} runs, {clock(outcome.wall_s)}")
        if workspace is not None:
            lines.append(f"stored in {workspace.root}; look at it with `enginewatch dashboard`")
        return lines

    def _within(self, records: tuple[RunRecord, ...], workspace: Workspace | None) -> list[str]:
        """Say whether the load stayed within what this host was shown to drive."""
        if workspace is None:
            return []
        ran = max((value_of(record, "client_processes") or 1.0 for record in records), default=1.0)
        host = next((record.host for record in records), {})
        limit = shown_limit(workspace.root, cpu_model=host.get("cpu_model"), processes=round(ran))
        return [] if limit is None else [load_summary.within_line(records, limit)]

    def as_json(self, outcome: SessionOutcome, workspace: Workspace | None) -> Json:
        """Return the result for machines."""
        return load_summary.as_json(
            self.found(outcome.records),
            outcome.records,
            session_id=outcome.session_id,
            label=self.request.label,
            url=self.server.url,
            model=self.server.model,
            server={"family": self.server.family, "version": self.server.version},
            store=None if workspace is None else str(workspace.root),
            wall_s=outcome.wall_s,
        )


def prepare_test(given: Mapping[str, Any], *, environment: Mapping[str, str]) -> LoadTest:
    """Check the command line, ask the server who it is, and return the test.

    Raises:
        UsageError: Options that cannot be obeyed.
        BackendError: The server does not answer.
    """
    url = root_url(given["url"])
    load = Given(**{item.name: given[item.name] for item in fields(Given)})
    loads = loads_of(load)
    for level in loads.levels:
        check_spec(loads.spec(level))
    options = _options(given, url, load)
    headers = headers_of(parse_options(options), environment)
    server = find_server(
        url, model=given["model"], headers=headers, ca_file=given["ca_file"], verify_tls=not given["insecure"]
    )
    options["served_model"] = server.model
    first = loads.spec(loads.levels[0])
    check_target(Target(url=url, model=server.model, endpoint=str(options["endpoint"])), first)
    prepare_workload(first, 0)  # a dataset or a tokenizer that cannot be read is told now, not by every run
    model = ModelTable(name=name_of(server.model), served=server.model)
    maker = CaseMaker(
        loads=loads,
        model=model,
        options=options,
        precision=given["precision"],
        warmup_s=load.warmup_s,
        duration_s=load.duration_s,
    )
    source, search = _source(maker, load)
    request = _request(given, load, server, model, options, source)
    return LoadTest(server=server, given=load, loads=loads, source=source, search=search, request=request)


def _options(given: Mapping[str, Any], url: str, load: Given) -> Json:
    chosen = given["endpoint"] or ("chat" if load.turns > 1 else "completions")
    wanted = {
        "url": url,
        "endpoint": chosen,
        "stream": not given["no_stream"],
        "body": body_of(given["body"]),
        "api_key_env": given["api_key_env"],
        "ca_file": None if given["ca_file"] is None else str(given["ca_file"].absolute()),
        "verify_tls": not given["insecure"],
        "request_timeout_s": given["request_timeout_s"],
        "outage_s": given["outage_s"],
        "device_name": given["device_name"],
        "gpus": given["gpus"],
    }
    return {key: value for key, value in wanted.items() if value not in (None, {})}


def _source(maker: CaseMaker, load: Given) -> tuple[LadderSource | SearchSource[Any], KneeSearch | SloSearch | None]:
    loads = maker.loads
    if load.find is None:
        once = loads.mode in ("steps", "trace")
        return LadderSource(maker=maker, repeats=load.repeats or (1 if once else REPEATS)), None
    limits = Limits(
        low=min(loads.levels),
        high=max(loads.levels),
        whole=not loads.by_rate,
        max_runs=load.max_runs,
        tolerance=load.tolerance_pct / 100,
    )
    if load.find == "knee":
        knee = KneeSearch(limits=limits)
        return SearchSource(
            maker=maker,
            search=knee,
            read=lambda record: throughput_of(record, by_rate=loads.by_rate),
            total=load.max_runs,
        ), knee
    slo = SloSearch(limits=limits, target=load.slo_share / 100, max_repeats=load.repeats or REPEATS)
    return SearchSource(
        maker=maker,
        search=slo,
        read=lambda record: attained_of(record, by_rate=loads.by_rate, target=slo.target),
        total=load.max_runs,
    ), slo


def _request(
    given: Mapping[str, Any],
    load: Given,
    server: Server,
    model: ModelTable,
    options: Json,
    source: LadderSource | SearchSource[Any],
) -> SessionRequest:
    parts = urlsplit(server.url)
    host = parts.netloc + parts.path
    measuring_s = REQUESTS_LIMIT_S if load.requests else load.duration_s
    plan = PlanFile.model_construct(
        name=name_of(f"load-{host}"),
        repeats=source.repeats if isinstance(source, LadderSource) else 1,
        seed=given["seed"],
        measure=MeasureTable(
            warmup_s=load.warmup_s,
            duration_s=load.duration_s,
            timeout_s=load.warmup_s + measuring_s + given["request_timeout_s"] + START_AND_END_S,
        ),
        model=[model],
        workload=[],
    )
    meant = {"load": {item.name: str(getattr(load, item.name)) for item in fields(Given)}, "options": options}
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return SessionRequest(
        plan=plan,
        plan_path=Path("load"),
        plan_sha256=hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest(),
        label=given["label"] or f"load {host} {now}",
        wait_s=given["wait_s"],
        source=source,
    )
