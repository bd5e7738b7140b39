"""JUnit XML: one test case per case and metric, for the test tab of any CI. Pure."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from enginewatch_ci import phrasing
from enginewatch_ci.judgement import Judgement
from enginewatch_db.model import Comparison, Verdict

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, escaped or not (section 2.2)."""

FAILING = frozenset({Verdict.REGRESSED, Verdict.FAILED})
SKIPPED = frozenset({Verdict.INCONCLUSIVE, Verdict.NOT_COMPARABLE})


def clean(text: str) -> str:
    """Return ``text`` without the characters that XML 1.0 cannot hold."""
    return _FORBIDDEN.sub("", text)


def render_junit(judgement: Judgement) -> str:
    """Return the report: regressed and failed cases are failures, inconclusive and not comparable ones skipped."""
    suite = ET.Element("testsuite", {"name": "enginewatch gate"})
    properties = ET.SubElement(suite, "properties")
    _property(properties, "sentence", judgement.sentence)
    _property(properties, "candidate", judgement.candidate.newest.session_id)
    if judgement.baseline is not None:
        _property(properties, "baseline", judgement.baseline.newest.session_id)
    for item in judgement.comparisons:
        _comparison(suite, item)
    for finding in judgement.failing_breaches:
        case = _case(suite, finding.case_key or "session", finding.detector)
        _mark(case, "failure", finding.title, finding.remedy or finding.title, "limit")
    if not judgement.comparisons:
        _mark(_case(suite, "enginewatch", "baseline"), "skipped", judgement.sentence)
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for _ in suite.iter(tag))))
    suite.set("errors", "0")
    root = ET.Element("testsuites", {key: suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")})
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _property(parent: ET.Element, name: str, value: str) -> None:
    ET.SubElement(parent, "property", {"name": name, "value": clean(value)})


def _case(suite: ET.Element, classname: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", {"classname": clean(classname), "name": clean(name)})


def _mark(case: ET.Element, tag: str, message: str, text: str | None = None, kind: str | None = None) -> None:
    mark = ET.SubElement(case, tag, {"message": clean(message)})
    if kind is not None:
        mark.set("type", kind)
    if text is not None:
        mark.text = clean(text)


def _comparison(suite: ET.Element, item: Comparison) -> None:
    case = _case(suite, item.case_key, item.metric)
    if item.verdict in FAILING:
        _mark(case, "failure", _headline(item), _detail(item), item.verdict.value)
    elif item.verdict in SKIPPED:
        _mark(case, "skipped", f"{item.verdict.value}: {item.why}")
    else:
        ET.SubElement(case, "system-out").text = clean(f"{item.verdict.value}: {item.why}")


def _headline(item: Comparison) -> str:
    told = phrasing.effect(item.effect) if item.effect else item.why
    return f"{phrasing.name(item)} {item.verdict.value}: {told}"


def _detail(item: Comparison) -> str:
    lines = [f"case: {item.case_key}", f"metric: {item.metric}", f"verdict: {item.verdict.value}"]
    if item.effect is not None:
        lines += [
            f"effect: {phrasing.percent(item.effect.rel)}",
            f"interval: {phrasing.interval(item.effect.ci_low, item.effect.ci_high)} ({phrasing.runs(item.effect)})",
            f"threshold: {phrasing.threshold(item.threshold_rel)}",
            f"method: {item.effect.method}",
        ]
    return "\n".join([*lines, f"why: {item.why}", *(f"note: {note}" for note in item.notes)])
