"""The docs say what the code does: every command, metric, table, key and code is there, and every link works."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from enginewatch_db.errors import FAILURE_CODES, ExitCode
from enginewatch_db.metrics import METRICS
from enginewatch_db.model import Verdict
from enginewatch_db.tables import SCHEMAS
from enginewatch_db.validity import REASONS
from enginewatch_harness.cli import COMMANDS
from enginewatch_harness.plan_file import PlanFile, parse_plan

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("reference/*.md"), *ROOT.glob("*.md"), *ROOT.glob("*/README.md")])


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_the_generated_reference_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.outdated() == [], "run `make docs`"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("reference/metrics.md", METRICS),
        ("reference/validity.md", REASONS),
        ("reference/failures.md", FAILURE_CODES),
        ("reference/schema.md", [*SCHEMAS, "v_runs", "v_metrics", "v_telemetry", "v_findings", "verdicts"]),
        ("reference/plan.md", PlanFile.model_fields),
        ("reference/cli.md", [f"## enginewatch {name}" for name in COMMANDS]),
        ("reference/exit-codes.md", [f"| {int(code)} |" for code in ExitCode]),
        ("glossary.md", [f"`{verdict}`" for verdict in Verdict]),
    ],
)
def test_everything_is_documented(page, names):
    text = read(page)
    assert [name for name in names if name not in text] == []


def test_the_glossary_has_every_noun_of_the_model():
    text = read("glossary.md")
    nouns = {"run", "session", "case", "series", "identity", "facets", "engine", "effect", "verdict", "finding"}
    assert {noun for noun in nouns if f"| {noun} |" not in text} == set()


def test_every_dependency_has_a_reason_and_none_is_listed_in_vain():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {re.match(r"[A-Za-z0-9_-]+", entry)[0] for group in groups for entry in group}
    rows = [line for line in read("dependencies.md").splitlines() if line.startswith("| `")]
    listed = set()
    for line in rows:
        cells = line.split("|")
        column = 2 if cells[1].strip().strip("`") in project["optional-dependencies"] and len(cells) == 5 else 1
        listed |= set(re.findall(r"`([A-Za-z0-9_-]+)`", cells[column]))
    assert listed == declared
    assert all(">=" in entry for group in groups for entry in group)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_images_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_docs_exist(page):
    for name in re.findall(r"(?:^|`)enginewatch ([a-z]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        assert name in COMMANDS, name


def test_the_plan_in_the_docs_is_a_plan():
    block = re.search(r"```toml\n(.*?)```", read("plan.md"), flags=re.DOTALL)
    assert parse_plan(block[1].encode(), "docs/plan.md").name == "nightly"


def test_the_readme_fits_two_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100


def test_no_path_of_a_machine_is_in_the_project():
    pattern = re.compile(r"/(?:home|root|Users|work)/[a-z]")
    for path in [*PAGES, *ROOT.glob("*/**/*.py"), ROOT / "Makefile", ROOT / "pyproject.toml"]:
        if ".venv" in path.parts or path.name == "test_docs.py":
            continue
        assert not pattern.search(path.read_text(encoding="utf-8")), path
