"""Renderers of a judgement: each takes it and returns text. Pure."""

from enginewatch_ci.report.json import render_json
from enginewatch_ci.report.junit import render_junit
from enginewatch_ci.report.markdown import render_markdown
from enginewatch_ci.report.text import render_text

__all__ = ["render_json", "render_junit", "render_markdown", "render_text"]
