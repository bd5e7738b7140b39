"""A session on the disk: what it set out to do, and which of its runs have a finished bundle."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from enginewatch_db.bundle import read_record
from enginewatch_db.errors import BundleError, UsageError
from enginewatch_db.model import Json, RunRecord
from enginewatch_db.workspace import Workspace

FILE = "session.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """One session's own file; written once at its start and once at its end.

    Attributes:
        folder: Its scratch folder.
        session: Facts of the session, as stored with every run.
    """

    folder: Path
    session_id: str
    plan_name: str
    session: Json

    @classmethod
    def begin(cls, workspace: Workspace, session_id: str, plan_name: str, session: Json) -> Journal:
        """Note a new session."""
        folder = workspace.work / session_id
        folder.mkdir(parents=True, exist_ok=True)
        journal = cls(folder=folder, session_id=session_id, plan_name=plan_name, session=session)
        journal._write(finished=False)
        return journal

    def finish(self) -> None:
        """Note that nothing is missing any more."""
        self._write(finished=True)

    def _write(self, *, finished: bool) -> None:
        content = {
            "session_id": self.session_id,
            "plan_name": self.plan_name,
            "finished": finished,
            "session": self.session,
        }
        temporary = self.folder / f"{FILE}.tmp"
        with temporary.open("w", encoding="utf-8") as handle:
            json.dump(content, handle, indent=1)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(self.folder / FILE)

    @classmethod
    def newest_unfinished(cls, workspace: Workspace, plan_name: str, plan_sha256: str) -> Journal:
        """Return the newest session of this plan, which did not end.

        Raises:
            UsageError: There is none, or the plan has changed since.
        """
        for path in sorted(workspace.work.glob(f"*/{FILE}"), reverse=True):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                continue
            if content["plan_name"] != plan_name:
                continue
            if content["finished"]:
                break
            if content["session"]["plan_sha256"] != plan_sha256:
                raise UsageError(
                    f"the plan {plan_name!r} has changed since session {content['session_id']} began",
                    remedy="restore the plan, or start a new session without --resume",
                )
            return cls(
                folder=path.parent,
                session_id=content["session_id"],
                plan_name=plan_name,
                session=content["session"],
            )
        raise UsageError(f"no unfinished session of plan {plan_name!r}", remedy="start one without --resume")

    def finished_runs(self, workspace: Workspace) -> list[RunRecord]:
        """Return the runs of this session that have a whole bundle, wherever it lies."""
        day = f"dt={str(self.session['started_at'])[:10]}"
        folders = [workspace.spool, *(path for path in workspace.done.glob("dt=*") if path.name >= day)]
        found: dict[str, RunRecord] = {}
        for folder in folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                if path.name.startswith("."):
                    continue
                try:
                    record = read_record(path)
                except BundleError:
                    continue
                if record.session_id == self.session_id:
                    found[record.run_id] = record
        return sorted(found.values(), key=lambda record: record.order_idx)
