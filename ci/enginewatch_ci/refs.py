"""What a REF means: which sessions, or which folder. Pure but for asking whether a folder exists.

latest, latest~2     the newest finished session, or the one two before it
baseline             the accepted baseline of the candidate's plan, else its first finished session with a valid run
0198f3a2…            a session id, or the first four or more characters of it
commit:3f9c1d2       all sessions of one commit
label:nightly        all sessions with one label; plain ``nightly`` will do where it means nothing else
./bundles            a folder that holds run bundles, whether in a store or not
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from enginewatch_ci.facts import SessionFacts
from enginewatch_ci.phrasing import count, listed
from enginewatch_db.errors import UsageError

MIN_PREFIX = 4
_LATEST = re.compile(r"latest(?:~(\d+))?")
_HEX = re.compile(r"[0-9a-f]+")


def as_folder(ref: str) -> Path | None:
    """Return the folder that a REF names: one with a slash, or an existing one with bundles in it; else ``None``."""
    path = Path(ref).expanduser()
    if "/" in ref or ref in (".", ".."):
        if not path.is_dir():
            raise UsageError(f"there is no folder {ref!r}", remedy="give a folder that holds run bundles")
        return path
    return path if path.is_dir() and any(path.glob("**/run.json")) else None


def resolve(ref: str, sessions: Sequence[SessionFacts], *, plan: str | None = None) -> tuple[SessionFacts, ...]:
    """Return the sessions that a REF other than ``baseline`` or a folder means, oldest first.

    Args:
        ref: As in the module's table.
        sessions: All sessions of the store, oldest first.
        plan: Look among the sessions of this plan only; ``None`` for all.

    Raises:
        UsageError: Nothing or more than one thing matches; the newest or nearest ones are named.
    """
    known = [session for session in sessions if plan is None or session.plan_name == plan]
    if not known:
        where = f"plan {plan!r} has" if plan else "the store has"
        raise UsageError(f"{ref!r}: {where} no session", remedy="measure one with `enginewatch run PLAN`")
    if match := _LATEST.fullmatch(ref):
        return (_latest(ref, int(match[1] or 0), known),)
    kind, colon, name = ref.partition(":")
    if colon and kind == "commit":
        return _of_commit(ref, name, known)
    if colon and kind == "label":
        return _of_label(ref, name, known)
    return _by_name(ref, known)


def _latest(ref: str, back: int, known: Sequence[SessionFacts]) -> SessionFacts:
    finished = [session for session in known if session.finished]
    if back >= len(finished):
        left = len(known) - len(finished)
        raise UsageError(
            f"{ref!r}: {len(finished) or 'none'} of {count(len(known), 'session')} finished; the others are passed over"
            if left
            else f"{ref!r}: there are only {count(len(known), 'session')}",
            remedy=f"name one by its id; {_newest(known)}" if left else _newest(known),
        )
    return finished[-1 - back]


def _of_commit(ref: str, name: str, known: Sequence[SessionFacts]) -> tuple[SessionFacts, ...]:
    wanted = name.lower()
    commits = sorted({session.git_commit for session in known if session.git_commit})
    matching = [commit for commit in commits if commit.startswith(wanted)] if len(wanted) >= MIN_PREFIX else []
    if not matching:
        have = (
            f"measured commits: {listed(reversed([c[:10] for c in _in_order(known)]))}" if commits else _newest(known)
        )
        raise UsageError(f"{ref!r} matches no measured commit ({MIN_PREFIX} or more characters)", remedy=have)
    if len(matching) > 1:
        raise UsageError(f"{ref!r} is ambiguous", remedy=f"it matches {listed(c[:16] for c in matching)}")
    return tuple(session for session in known if session.git_commit == matching[0])


def _in_order(known: Sequence[SessionFacts]) -> list[str]:
    return list(dict.fromkeys(session.git_commit for session in known if session.git_commit))


def _of_label(ref: str, name: str, known: Sequence[SessionFacts]) -> tuple[SessionFacts, ...]:
    found = tuple(session for session in known if session.label == name)
    if not found:
        raise UsageError(f"{ref!r}: no session has the label {name!r}", remedy=_near_label(name, known))
    return found


def _by_name(ref: str, known: Sequence[SessionFacts]) -> tuple[SessionFacts, ...]:
    bare = ref.lower().replace("-", "")
    usable = len(bare) >= MIN_PREFIX and _HEX.fullmatch(bare) is not None
    by_id = [session for session in known if usable and session.session_id.replace("-", "").startswith(bare)]
    by_label = tuple(session for session in known if session.label == ref)
    if len(by_id) > 1 or (by_id and by_label):
        matches = [f"session {session.session_id}" for session in by_id]
        matches += [f"label:{ref}"] if by_label else []
        raise UsageError(f"{ref!r} is ambiguous", remedy=f"it matches {listed(matches)}; give more of one")
    if by_id or by_label:
        return tuple(by_id) or by_label
    raise UsageError(f"{ref!r} is neither a session, a label nor a folder", remedy=_near_label(ref, known))


def _near_label(name: str, known: Sequence[SessionFacts]) -> str:
    labels = list(dict.fromkeys(session.label for session in known if session.label))
    close = difflib.get_close_matches(name, labels, n=1, cutoff=0.5)
    return f"did you mean label:{close[0]}?" if close else _newest(known)


def _newest(known: Sequence[SessionFacts]) -> str:
    return f"newest sessions: {listed((session.title for session in reversed(known)), 3)}"


def baseline_of(
    plan: str, sessions: Sequence[SessionFacts], accepted: Mapping[str, str]
) -> tuple[SessionFacts, ...] | None:
    """Return the baseline of a plan, or ``None`` where it has none yet.

    Somebody's accepted session, else the plan's first finished one with a valid run: a baseline never moves by itself,
    or small regressions would add up unseen.

    Args:
        plan: Name of the plan.
        sessions: All sessions of the store, oldest first.
        accepted: Plan → session id of its newest accept entry.
    """
    mine = [session for session in sessions if session.plan_name == plan]
    chosen = [session for session in mine if session.session_id == accepted.get(plan)]
    first = [session for session in mine if session.valid_runs > 0 and session.finished]
    found = chosen or first
    return (found[0],) if found else None


def is_latest(ref: str) -> bool:
    """Return whether a REF counts sessions from the newest, instead of naming one."""
    return _LATEST.fullmatch(ref) is not None


def passed_over(ref: str, chosen: SessionFacts | None, known: Sequence[SessionFacts]) -> list[SessionFacts]:
    """Return the unfinished sessions that a REF left out which names none.

    Args:
        ref: What chose.
        chosen: What it chose; ``None`` where nothing.
        known: What it chose from, oldest first.
    """
    place = len(known) if chosen is None else known.index(chosen)
    if is_latest(ref):
        return [session for session in known[place + 1 :] if not session.finished]
    return [session for session in known[:place] if not session.finished and session.valid_runs]
