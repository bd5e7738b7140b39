"""The docs say what the code does: every command, metric, table, key and code is there, and every link works."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from enginewatch_db.errors import FAILURE_CODES, ExitCode
from enginewatch_db.metrics import METRICS
from enginewatch_db.model import Verdict
from enginewatch_db.tables import SCHEMAS
from enginewatch_db.validity import REASONS
from enginewatch_harness.backends.option_values import known_options
from enginewatch_harness.cli import COMMANDS
from enginewatch_harness.plan_file import PlanFile, parse_plan
from enginewatch_harness.plan_text import Machine, plan_text

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("reference/*.md"), *ROOT.glob("*.md"), *ROOT.glob("*/README.md")])


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_reference_is_up_to_date():
    assert generator().outdated() == [], "run `make docs`"


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


def test_every_page_that_the_packages_name_is_there():
    theirs = {"docs/protocol/extension_generate.md", "docs/Changelog.md"}  # of Triton and of ONNX
    frozen = {"docs/schema.md"}  # in a migration, whose text must stay as it was released
    named = {}
    for folder in ("ci", "collector", "dashboards", "db", "examples", "harness"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".sql", ".toml", ".j2", ".html") and path.is_file():
                for page in re.findall(r"\bdocs/[\w./-]+\.md", path.read_text(encoding="utf-8")):
                    named[page] = path
    assert "docs/plan.md" in named
    assert {
        page: path for page, path in named.items() if page not in theirs | frozen and not (ROOT / page).exists()
    } == {}


def test_a_generated_plan_points_at_the_pages_that_explain_it():
    machine = Machine(gpus=(), trtexec=None, onnx_precisions=("fp32",), llamacpp=True, cores=2)
    pages = set(re.findall(r"docs/[\w./-]+\.md", plan_text(machine, file_name="plan.toml")))
    assert pages == {"docs/plan.md", "docs/verdict.md"}


def test_the_reference_of_options_has_those_that_backends_share():
    section = {}
    for text in generator().options().split("\n## ")[1:]:
        title, _, body = text.partition("\n")
        section |= dict.fromkeys(re.split(r", | and ", title), body)
    for name, options in known_options().items():
        if name in section:
            rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", section[name], flags=re.MULTILINE))
            assert [option for option in options if not rows.get(option)] == [], name
    assert {"trtexec", "tensorrt", "torch_compile", "onnxruntime"} <= section.keys()


def test_the_reference_of_plans_has_headers_as_toml_has_them_and_a_meaning_for_each_key():
    text = generator().plan()
    headers = re.findall(r"^## `(.*)`$", text, flags=re.MULTILINE)
    assert {"[measure]", "[[workload]]", "[[workload.load]]", "[workload.load.dataset]", "[[exclude]]"} <= set(headers)
    assert [name for name in headers if not re.fullmatch(r"\[\[[a-z.]+\]\]|\[[a-z.]+\]", name)] == []
    for table in text.split("\n## ")[1:]:
        meanings = re.findall(r"^\| `\w+` \| .* \| (.*) \|$", table, flags=re.MULTILINE)
        assert all(meanings), table
        assert len(set(meanings)) == len(meanings), table
