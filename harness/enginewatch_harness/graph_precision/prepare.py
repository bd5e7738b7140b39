"""Make a graph in a precision, or find the one that was made before."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from enginewatch_db import __version__
from enginewatch_db.errors import BackendError, NotAvailableError
from enginewatch_db.model import Json
from enginewatch_harness.backends.ort_errors import translated
from enginewatch_harness.graph_precision.calibration import Calibration, static_shapes
from enginewatch_harness.graph_precision.checks import check_graph
from enginewatch_harness.graph_precision.load import model_sha256
from enginewatch_harness.graph_precision.modelopt import REMEDY, modelopt_version
from enginewatch_harness.graph_precision.recipes import BUILTIN, MODELOPT, Recipe, Request

GRAPH = "model.onnx"
META = "graph.json"
FOLDER = "graphs"

RECIPE_VERSION = 2
"""Raised when the same precision is put into a graph in another way."""

AS_GIVEN = ("fp32", "tf32")
"""Precisions of a graph as it is; TF32 is a switch of the builder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTool:
    """Who puts a precision into a graph; ``version`` is the library's."""

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphModel:
    """A model whose graph says its precision.

    Attributes:
        path: The ONNX file; weights may lie beside it.
        sha256: Hash of it, weights included.
        tool: Who made it: ``source`` (nobody: the file as given), ``onnxruntime``, ``enginewatch`` or ``modelopt``.
        tool_version: Version of the tool; empty for ``source``.
        notes: What a reader of the result should know.
    """

    path: Path
    sha256: str
    tool: str
    tool_version: str
    notes: tuple[str, ...] = ()


def graph_tool(precision: str, calibration: Calibration) -> GraphTool:
    """Return who would put ``precision`` into a graph here.

    Raises:
        BackendError: ``unsupported_precision``: nobody.
    """
    if precision in AS_GIVEN:
        return GraphTool(name="source", version="")
    return _tool(_recipe(precision, calibration))


def graph_identity(precision: str, calibration: Calibration, shapes: Mapping[str, tuple[int, ...]]) -> Json:
    """Return what a graph depends on besides model and precision: part of the key of an engine built from it.

    The batch is left out: the calibration sets a dynamic one to 1.

    Raises:
        BackendError: ``unsupported_precision``.
        PlanError: The calibration's data does not exist.
    """
    if precision in AS_GIVEN:
        return {}
    recipe = _recipe(precision, calibration)
    tool = _tool(recipe)
    found: Json = {"graph_tool": tool.name, "graph_tool_version": tool.version, "recipe": RECIPE_VERSION}
    chosen: Json = json.loads(json.dumps(asdict(calibration), default=str))
    found |= {name: chosen[name] for name in recipe.options}
    if recipe.calibrated:
        found |= calibration.identity()
        found["calibration_shapes"] = {name: list(dims[1:]) for name, dims in sorted(shapes.items())}
    return found


def prepare_graph(
    source: Path,
    precision: str,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    calibration: Calibration,
    cache_dir: Path | None,
    work_dir: Path,
) -> GraphModel:
    """Return ``source`` with ``precision`` in its graph; the file itself for fp32 and tf32.

    Args:
        source: The fp32 model.
        precision: fp16, bf16, int8, fp8, int4 or fp4.
        shapes: Input shapes of the case.
        calibration: How, where there is a choice.
        cache_dir: Where graphs are kept from run to run; ``None``: the graph lies in ``work_dir``.
        work_dir: Scratch folder of the run.

    Raises:
        BackendError: ``unsupported_precision``, ``model_missing``, ``model_corrupt``, ``build_failed`` (the graph
            that was made is not valid), ``disk_full``, or what the calibration met.
        PlanError: The calibration's data does not exist.
    """
    sha256 = model_sha256(source)
    if precision in AS_GIVEN:
        return GraphModel(path=source, sha256=sha256, tool="source", tool_version="")
    recipe = _recipe(precision, calibration)
    parts = {"source": sha256, "precision": precision, **graph_identity(precision, calibration, shapes)}
    if recipe.calibrated:
        parts["calibration_shapes"] = sorted(static_shapes(source, shapes).items())
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    root = (work_dir if cache_dir is None else cache_dir) / FOLDER
    found = _kept(root / key)
    if found is not None:
        return found
    try:
        return _make(source, precision, recipe, root / key, shapes=shapes, calibration=calibration)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BackendError(
            f"no space left to write {source.name} in {precision} below {root}",
            code="disk_full",
            remedy=f"free space below {root}",
        ) from error


def _make(
    source: Path,
    precision: str,
    recipe: Recipe,
    folder: Path,
    *,
    shapes: Mapping[str, tuple[int, ...]],
    calibration: Calibration,
) -> GraphModel:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name[:16]}-", dir=folder.parent) as scratch:
        made, work = Path(scratch) / "made", Path(scratch) / "work"
        made.mkdir()
        work.mkdir()
        request = Request(source=source, target=made / GRAPH, shapes=shapes, calibration=calibration, work_dir=work)
        with translated(model=source, precision=precision):
            notes = (*recipe.make(request), *check_graph(made / GRAPH, source, precision))
        tool = _tool(recipe)
        meta = {"sha256": model_sha256(made / GRAPH), "tool": tool.name, "tool_version": tool.version, "notes": notes}
        (made / META).write_text(json.dumps(meta), encoding="utf-8")
        return _publish(made, folder)


def _publish(made: Path, folder: Path) -> GraphModel:
    """Rename a finished folder into place; where another process was faster, take what it made."""
    try:
        made.rename(folder)
    except OSError:
        other = _kept(folder)
        if other is not None:
            return other
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    found = _kept(folder)
    if found is None:
        raise BackendError(
            f"the graph in {folder} changed while it was written", code="build_failed", remedy="run it again"
        )
    return found


def _kept(folder: Path) -> GraphModel | None:
    """Return a kept graph that is whole; one that was cut or altered is taken away."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        found = GraphModel(
            path=folder / GRAPH,
            sha256=meta["sha256"],
            tool=meta["tool"],
            tool_version=meta["tool_version"],
            notes=tuple(meta["notes"]),
        )
        whole = model_sha256(found.path) == found.sha256
    except (OSError, ValueError, KeyError, TypeError, BackendError):
        whole = False
    if whole:
        return found
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _recipe(precision: str, calibration: Calibration) -> Recipe:
    if precision not in BUILTIN:
        raise BackendError(
            f"no tool here puts precision {precision!r} into a graph; known: {', '.join((*AS_GIVEN, *BUILTIN))}",
            code="unsupported_precision",
            remedy="take this precision out of the plan for tools that build strongly typed networks",
        )
    if calibration.tool == "builtin" or precision not in MODELOPT:
        return BUILTIN[precision]
    if modelopt_version() is not None:
        return MODELOPT[precision]
    if calibration.tool == "modelopt":
        raise NotAvailableError("graph_tool = 'modelopt', and ModelOpt is not installed", remedy=REMEDY)
    return BUILTIN[precision]


def _tool(recipe: Recipe) -> GraphTool:
    if recipe.tool == "onnxruntime":
        import onnxruntime

        return GraphTool(name=recipe.tool, version=onnxruntime.__version__)
    if recipe.tool == "modelopt":
        return GraphTool(name=recipe.tool, version=str(modelopt_version()))
    return GraphTool(name=recipe.tool, version=__version__)
