"""What a calibrated precision is calibrated with: seeded inputs, or a user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from enginewatch_db.model import Json
from enginewatch_harness.backends import option_values as read
from enginewatch_harness.backends.ort_inputs import calibration_shapes, index_bounds, input_specs, make_inputs
from enginewatch_harness.backends.ort_inputs import resolve_shapes as resolve
from enginewatch_harness.backends.ort_options import OrtOptions
from enginewatch_harness.backends.ort_session import open_session
from enginewatch_harness.graph_precision.load import load_model
from enginewatch_harness.input_data import Arrays, data_sha256, read_samples

GRAPH_TOOLS = ("auto", "builtin", "modelopt")
"""Who puts the precision into the graph; ``auto``: ModelOpt where it is installed."""

RESTS = ("fp16", "fp32")
"""Formats for what a quantised graph does not quantise."""

DATA = "calibration_data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a precision is put into a graph, where there is a choice.

    Attributes:
        samples: Inputs that the calibration sees; at most so many of ``data``.
        seed: Seed of generated inputs.
        data: A user's inputs instead: an ``.npz`` or a folder (see ``input_data``); ``None``: generated ones.
        per_channel: Quantise weights per channel.
        operators: Operators to quantise; empty: the default of the precision.
        block_size: Weights that share a scale (int4); fp4 always has 16, by its definition.
        rest: Format of what is not quantised: a name of ``RESTS``.
        tool: A name of ``GRAPH_TOOLS``.
    """

    samples: int = 32
    seed: int = 0
    data: Path | None = None
    per_channel: bool = True
    operators: tuple[str, ...] = ()
    block_size: int = 128
    rest: str = "fp16"
    tool: str = "auto"

    def identity(self) -> Json:
        """Return what the inputs of the calibration depend on.

        Raises:
            PlanError: ``data`` does not exist.
        """
        if self.data is None:
            return {"calibration_samples": self.samples, "calibration_seed": self.seed}
        return {"calibration_samples": self.samples, "calibration_data": data_sha256(self.data, DATA)}


def parse_calibration(options: Json) -> Calibration:
    """Take the calibration out of a backend's options in a plan.

    Raises:
        PlanError: A value of the wrong type or range, or data that does not exist.
    """
    default = Calibration()
    data = read.optional_text(options, DATA)
    if data is not None:
        data_sha256(Path(data), DATA)
    return Calibration(
        samples=read.integer(options, "calibration_samples", default.samples, low=1),
        seed=read.integer(options, "calibration_seed", default.seed, low=0),
        data=None if data is None else Path(data),
        per_channel=read.flag(options, "per_channel", default.per_channel),
        operators=read.names(options, "quantize_ops"),
        block_size=read.integer(options, "quantize_block", default.block_size, low=16),
        rest=read.choice(options, "quantize_rest", default.rest, RESTS),
        tool=read.choice(options, "graph_tool", default.tool, GRAPH_TOOLS),
    )


def static_shapes(source: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes to calibrate with: a dynamic batch is 1, so that one graph serves every batch size.

    Raises:
        BackendError: The model cannot be read, or the shapes do not fit.
    """
    specs = input_specs(open_session(source, OrtOptions(), precision="fp32", optimization="disable"))
    return calibration_shapes(specs, resolve(specs, dict(shapes), source.name))


def calibration_inputs(
    source: Path, shapes: Mapping[str, tuple[int, ...]], calibration: Calibration
) -> Iterator[Arrays]:
    """Yield the inputs to calibrate with.

    Raises:
        BackendError: The model cannot be read, or the shapes or the user's data do not fit.
        PlanError: The user's data does not exist.
    """
    specs = input_specs(open_session(source, OrtOptions(), precision="fp32", optimization="disable"))
    wanted = calibration_shapes(specs, resolve(specs, dict(shapes), source.name))
    if calibration.data is not None:
        yield from islice(read_samples(calibration.data, specs, wanted, DATA), calibration.samples)
        return
    bounds = index_bounds(load_model(source))
    for seed in range(calibration.seed, calibration.seed + calibration.samples):
        yield make_inputs(specs, wanted, bounds, seed)
