"""Write docs/reference/*.md from the code, or check that they are up to date: ``python docs/generate.py --check``."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from enginewatch_db.connect import Reader, writer
from enginewatch_db.errors import FAILURE_CODES, ExitCode
from enginewatch_db.metrics import METRICS
from enginewatch_db.validity import REASONS
from enginewatch_db.workspace import Workspace
from enginewatch_harness.backends.llamacpp_options import LlamaCppOptions
from enginewatch_harness.backends.openai_options import OpenAiOptions
from enginewatch_harness.backends.option_values import known_options
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.backends.tensorrt_options import TensorrtOptions
from enginewatch_harness.backends.torch_options import TorchOptions
from enginewatch_harness.backends.trtexec_options import TrtexecOptions
from enginewatch_harness.backends.trtllm_options import TrtllmOptions
from enginewatch_harness.cli import enginewatch
from enginewatch_harness.plan_file import PlanFile

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code; change the code, then run `make docs`. -->\n"

EXIT_MEANING = {
    ExitCode.PASS: "passed: nothing got slower; for commands that do not judge: done",
    ExitCode.REGRESSION: "a regression",
    ExitCode.USAGE: "a usage, plan or policy error; nothing was measured",
    ExitCode.INCONCLUSIVE: "inconclusive, or no baseline; the policy may map it",
    ExitCode.UNFIT: "the machine cannot measure now",
    ExitCode.FAILED: "a build or a benchmark failed",
    ExitCode.STORAGE: "store, bundle or disk",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C, SIGTERM); finished runs are in the store",
}


def rows(header: tuple[str, ...], body: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *body]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def metrics() -> str:
    """Return the page of metrics."""
    body = [
        (f"`{m.key}`", m.unit, m.direction.value, m.kind.value, "yes" if m.gated else "", m.description)
        for m in METRICS.values()
    ]
    header = ("metric", "unit", "better", "kind", "gated by default", "meaning")
    return "# Metrics\n\nAn absent value is NULL with `absent_reason`, never 0.\n\n" + rows(header, body)


def validity() -> str:
    """Return the page of validity reasons."""
    body = [(f"`{code}`", r.effect.value, r.description, r.remedy) for code, r in REASONS.items()]
    text = "# Validity reasons\n\n`reject`: the run enters no verdict. `warn`: it does, and the report says so.\n\n"
    return text + rows(("code", "effect", "meaning", "what to do"), body)


def failures() -> str:
    """Return the page of failure codes."""
    body = [(f"`{code}`", text) for code, text in FAILURE_CODES.items()]
    return "# Failure codes\n\nWhy a run has no result (`runs.failure_code`).\n\n" + rows(("code", "meaning"), body)


def exit_codes() -> str:
    """Return the page of exit codes."""
    body = [(str(int(code)), EXIT_MEANING[code]) for code in ExitCode]
    return "# Exit codes\n\nOne table for all commands.\n\n" + rows(("code", "meaning"), body)


def _table_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the table that a key holds, one or a list of them; ``None`` where it holds a value."""
    for item in (field.annotation, *getattr(field.annotation, "__args__", ())):
        if isinstance(item, type) and issubclass(item, BaseModel):
            return item
    return None


def _tables(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the tables inside a table, each with its header in TOML."""
    for key, field in model.model_fields.items():
        table = _table_of(field)
        if table is not None:
            inner = f"{path}.{key}".strip(".")
            is_list = str(field.annotation).startswith("list")
            yield f"[[{inner}]]" if is_list else f"[{inner}]", table
            yield from _tables(table, inner)


def _said(model: type[BaseModel]) -> str:
    """Return what a table is for, without its own name in front."""
    text = " ".join((model.__doc__ or "").split())
    after = text.partition(": ")[2]
    return after[:1].upper() + after[1:] if text.startswith("``") else text


def _meaning(field: FieldInfo) -> str:
    table = _table_of(field)
    return field.description or ("" if table is None else _said(table))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*"
    value = field.get_default(call_default_factory=True)
    return "its defaults" if isinstance(value, BaseModel) else f"`{value!r}`"


def plan() -> str:
    """Return the page of plan keys."""
    text = "# Plan keys\n\nUnknown keys are errors that name the nearest known one. `*` = required.\n"
    tables: list[tuple[str, type[BaseModel]]] = [("", PlanFile), *_tables(PlanFile)]
    for name, model in tables:
        body = [(f"`{key}`", _default(field), _meaning(field)) for key, field in model.model_fields.items()]
        heading = f"`{name}`" if name else "The plan itself"
        text += f"\n## {heading}\n\n{_said(model)}\n\n" + rows(("key", "default", "meaning"), body)
    return text


def options() -> str:
    """Return the page of backend options, from the dataclasses that check them and their docstrings."""
    text = "# Options of the backends\n\n`options = { ... }` of a workload. Unknown options are errors.\n"
    kinds = (
        ("onnxruntime", OrtOptions),
        ("llamacpp", LlamaCppOptions),
        ("trtexec", TrtexecOptions),
        ("tensorrt", TensorrtOptions),
        ("openai", OpenAiOptions),
        ("torch, torch_compile and torch_tensorrt", TorchOptions),
        ("trtllm", TrtllmOptions),
    )
    shared = _fields("onnxruntime", OrtOptions) | _fields("tensorrt", TensorrtOptions)
    for name, kind in kinds:
        own = _fields(name, kind)
        # Options that something else reads for this backend: no field of its own dataclass has them.
        others = {field: shared[field] for field in known_options().get(name.partition(",")[0], ()) if field not in own}
        text += f"\n## {name}\n\n" + rows(("option", "default", "meaning"), [*own.values(), *others.values()])
    return text


def _fields(name: str, kind: Any) -> dict[str, tuple[str, str, str]]:  # noqa: ANN401 - a dataclass with defaults
    """Return the row of each option: name, default, meaning."""
    found = {}
    said = " ".join((kind.__doc__ or "").partition("Attributes:")[2].split())
    fields = [field.name for field in dataclasses.fields(kind)]
    for field, following in zip(fields, [*fields[1:], None], strict=True):
        meaning = said.partition(f"{field}: ")[2]
        if following is not None:
            meaning = meaning.partition(f" {following}: ")[0]
        shown = "the machine's" if field == "threads" and name == "llamacpp" else f"`{getattr(kind(), field)!r}`"
        found[field] = (f"`{field}`", shown if len(shown) < 40 else "see the code", meaning)
    return found


def schema() -> str:
    """Return the page of tables and views."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        with writer(workspace):
            pass
        with Reader.open(workspace) as reader:
            found = reader.rows("schema")
    text = "# Tables and views\n\nThe views `v_*` are the interface for your own queries; see ../querying.md.\n"
    for row in found:
        text += f"\n## `{row['name']}` ({row['kind']})\n\n"
        text += ", ".join(f"`{column}`" for column in str(row["columns"]).split(", ")) + "\n"
    return text


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _commands(child, f"{path} {name}")


def cli() -> str:
    """Return the page of commands, from their own help."""
    text = "# Commands\n\nResults go to stdout, progress and advice to stderr.\n"
    for path, command in _commands(enginewatch, "enginewatch"):
        parts: dict[str, Any] = {"max_content_width": 100, "terminal_width": 100}
        help_text = command.get_help(click.Context(command, info_name=path, **parts))
        text += f"\n## {path}\n\n```text\n{help_text}\n```\n"
    return text


PAGES = {
    "metrics.md": metrics,
    "validity.md": validity,
    "failures.md": failures,
    "exit-codes.md": exit_codes,
    "plan.md": plan,
    "options.md": options,
    "schema.md": schema,
    "cli.md": cli,
}


def outdated() -> list[str]:
    """Return the pages that differ from the code."""
    return [
        name
        for name, make in PAGES.items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != NOTE + make()
    ]


def main() -> int:
    """Write the pages, or with ``--check`` return 1 when one is out of date."""
    if "--check" in sys.argv:
        stale = outdated()
        sys.stderr.writelines(f"docs/reference/{name} is out of date; run `make docs`\n" for name in stale)
        return int(bool(stale))
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(NOTE + make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
