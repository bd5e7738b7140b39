"""``enginewatch engines diff``: which layers explain that one engine is slower than another."""

from __future__ import annotations

from dataclasses import asdict

import click

from enginewatch_ci.layers.text import explain, render_layer_diff
from enginewatch_ci.layers.waterfall import LayerDiff, diff_layers
from enginewatch_db.model import Json
from enginewatch_db.workspace import Workspace
from enginewatch_harness.commands.options import json_option, store_option
from enginewatch_harness.console import PIPE_WIDTH, out, result, result_json, say
from enginewatch_harness.engine_sides import Side, difference, load_pair, measured_as


@click.command()
@click.argument("base", metavar="A")
@click.argument("cand", metavar="B")
@click.option("--rows", type=click.IntRange(1), default=12, show_default=True, help="Rows of the table.")
@click.option(
    "--by",
    type=click.Choice(["layer", "kind"]),
    help="Layers, or kinds of work.  [default: layer, where half of the time is matched]",
)
@store_option
@json_option
def diff(base: str, cand: str, rows: int, by: str | None, workspace: Workspace, *, as_json: bool) -> None:
    """Say where the time went from engine A to engine B, layer by layer.

    A and B are each an engine's or a run's id (its first characters), SESSION:CASE, or what trtexec exported: a
    NAME.layers.json with NAME.profile.json beside it, and NAME.times.json for the measured total; or their folder.
    Of engines, runs are taken that agree in workload, model, batch, shapes and device.

    \b
    Examples:
      enginewatch engines diff 3f9c1d2a 88e0b1c4
      enginewatch engines diff latest~1:resnet/trtexec/fp16/b8 latest:resnet/trtexec/int8/b8
      enginewatch engines diff fp16.layers.json int8.layers.json --by kind
    """
    one, other = load_pair(base, cand, workspace)
    warning = difference(one, other)
    if warning is not None and (as_json or not out.is_terminal):
        say(f"warning: {warning}")
    for side in (one, other):
        for note in side.notes:
            say(f"{side.name}: {note}")
    found = diff_layers(one.layers, other.layers, base_total_ns=one.total_ns, cand_total_ns=other.total_ns)
    if as_json:
        result_json({"warning": warning, **_as_json(found, one, other)})
        return
    if warning is not None:
        result(f"Warning: {warning}\n")
    width = out.width if out.is_terminal else PIPE_WIDTH
    names = {"base_name": one.name, "cand_name": other.name, "measured_as": measured_as(one, other)}
    result(render_layer_diff(found, rows=rows, width=width, by=by, **names).rstrip("\n"))


def _as_json(found: LayerDiff, one: Side, other: Side) -> Json:
    families = {name: {"base_ns": base, "cand_ns": cand} for name, (base, cand) in found.by_family().items()}
    totals = ("base_layers_ns", "cand_layers_ns", "base_total_ns", "cand_total_ns", "layers_delta_ns", "total_delta_ns")
    shares = ("residual_ns", "base_residual_ns", "cand_residual_ns", "conversions_delta_ns", "aligned_pct")
    profiled = (
        "is_corrected",
        "base_profile_ns",
        "cand_profile_ns",
        "profile_residual_ns",
        "base_overhead_ns",
        "cand_overhead_ns",
    )
    return {
        "base": {"name": one.name, "source": one.source, "total_is": one.total_is},
        "cand": {"name": other.name, "source": other.source, "total_is": other.total_is},
        "sentence": explain(found, base_name=one.name, cand_name=other.name),
        **{name: getattr(found, name) for name in (*totals, *shares, *profiled)},
        "families": families,
        "groups": [{**asdict(group), "delta_ns": group.delta_ns} for group in found.groups],
    }
