"""Colours read on both backgrounds; every state has a word, a symbol and a look of its own."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import enginewatch_dashboards
from enginewatch_dashboards import theme
from enginewatch_db.model import Phase, RunStatus, Severity, Verdict

CONFIG = tomllib.loads(
    (Path(enginewatch_dashboards.__file__).parent / ".streamlit" / "config.toml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("colour", [*theme.SERIES, theme.CRIMSON])
@pytest.mark.parametrize("background", [theme.LIGHT_BACKGROUND, theme.DARK_BACKGROUND])
def test_marks_have_enough_contrast(colour, background):
    assert theme.contrast(colour, background) >= 3.0


def test_text_has_enough_contrast():
    for name in ("light", "dark"):
        palette = CONFIG["theme"][name]
        assert theme.contrast(palette["textColor"], palette["backgroundColor"]) >= 7.0
        assert theme.contrast("#ffffff", palette["primaryColor"]) >= 4.0


def test_contrast_of_black_and_white():
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert theme.contrast("#777777", "#777777") == pytest.approx(1.0)


def test_the_theme_is_the_palette_of_the_figures():
    assert CONFIG["theme"]["light"]["backgroundColor"] == theme.LIGHT_BACKGROUND
    assert CONFIG["theme"]["dark"]["backgroundColor"] == theme.DARK_BACKGROUND
    assert CONFIG["theme"]["chartCategoricalColors"] == list(theme.SERIES)


def test_the_server_is_private_and_quiet():
    assert CONFIG["browser"]["gatherUsageStats"] is False
    assert CONFIG["server"]["enableXsrfProtection"] is True
    assert CONFIG["server"]["fileWatcherType"] == "none"
    assert CONFIG["server"]["headless"] is True


def test_every_state_has_its_own_look():
    assert set(theme.VERDICTS) == set(Verdict)
    assert set(theme.STATUSES) == set(RunStatus)
    assert set(theme.SEVERITIES) == set(Severity)
    assert set(theme.PHASE_TINTS) == set(Phase)
    for looks in (theme.VERDICTS, theme.STATUSES, theme.SEVERITIES):
        assert len({look.symbol for look in looks.values()}) == len(looks)
        assert len({look.word for look in looks.values()}) == len(looks)
        assert len({look.marker for look in looks.values()}) == len(looks)


def test_only_what_is_known_to_be_fine_is_green():
    green = [look.word for look in theme.VERDICTS.values() if look.badge == "green"]
    assert green == ["unchanged"]
    assert theme.run_look("ok", valid=True).badge == "green"
    assert theme.run_look("ok", valid=False).badge == "orange"
    assert theme.run_look("ok", valid=False).symbol not in "✓✖"
    assert theme.run_look("failed", valid=False) is theme.STATUSES[RunStatus.FAILED]
    assert theme.NO_DATA.badge == theme.NOT_JUDGED.badge == "gray"
