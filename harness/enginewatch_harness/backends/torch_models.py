"""Model files → torch modules: ONNX, ``torch.export`` (.pt2) and TorchScript. Torch is given, never imported."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from enginewatch_db.errors import BackendError
from enginewatch_harness.backends.base import Job
from enginewatch_harness.backends.ort_convert import load_model
from enginewatch_harness.backends.ort_inputs import InputSpec, index_bounds, make_inputs, resolve_shapes
from enginewatch_harness.backends.torch_convert import convert_graph
from enginewatch_harness.backends.torch_errors import shorten
from enginewatch_harness.backends.torch_options import EXPORTED, SCRIPTED

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A module on the CPU in fp32 or converted, with seeded inputs.

    Attributes:
        module: What is called with the inputs in their order.
        inputs: Name → values, in the order of the module's arguments.
        outputs: Names of the results; empty where the file names none.
        source: ``onnx``, ``torch.export`` or ``torchscript``.
        converted: Whether the weights have the wanted type already.
    """

    module: Any
    inputs: dict[str, NDArray[Any]]
    outputs: tuple[str, ...]
    source: str
    converted: bool


def load(torch: Any, job: Job, float_type: Any) -> LoadedModel:  # noqa: ANN401 - torch is given
    """Load the job's model.

    Args:
        torch: The module ``torch``.
        job: The case.
        float_type: Torch type that fp32 weights of an ONNX graph are converted to.

    Raises:
        BackendError: ``model_missing``, ``model_corrupt``, ``unsupported_operator``, ``shape_outside_profile``.
    """
    path = job.model_path
    if not path.is_file():
        raise BackendError(f"{path} does not exist", code="model_missing", remedy="check the model's path in the plan")
    if path.suffix == EXPORTED:
        return _exported(torch, job)
    if path.suffix in SCRIPTED:
        return _scripted(torch, job)
    model = load_model(path)
    specs = _specs(model)
    shapes = resolve_shapes(specs, job.shapes, job.model_name)
    module, names, outputs = convert_graph(torch, model, shapes, float_type)
    made = make_inputs(specs, shapes, index_bounds(model), job.seed)
    return LoadedModel(
        module=module, inputs={name: made[name] for name in names}, outputs=outputs, source="onnx", converted=True
    )


def _specs(model: onnx.ModelProto) -> list[InputSpec]:
    import onnx

    weights = {weight.name for weight in model.graph.initializer}
    return [
        InputSpec(
            name=item.name,
            kind=f"tensor({onnx.TensorProto.DataType.Name(item.type.tensor_type.elem_type).lower()})",
            dims=tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in item.type.tensor_type.shape.dim),
        )
        for item in model.graph.input
        if item.name not in weights
    ]


def _exported(torch: Any, job: Job) -> LoadedModel:  # noqa: ANN401
    try:
        program = torch.export.load(str(job.model_path))
    # The boundary to torch's reader: a truncated archive raises anything from KeyError to RuntimeError.
    except Exception as error:
        raise _corrupt(job.model_path, "a torch.export file", error) from error
    kinds = {
        node.name: str(node.meta["val"].dtype)
        for node in program.graph.nodes
        if node.op == "placeholder" and hasattr(node.meta.get("val"), "dtype")
    }
    names = [name for name in program.graph_signature.user_inputs if name in kinds]
    module = program.module()
    return LoadedModel(
        module=module,
        inputs=_positional(job, names, [kinds[name] for name in names]),
        outputs=tuple(str(name) for name in program.graph_signature.user_outputs),
        source="torch.export",
        converted=False,
    )


def _scripted(torch: Any, job: Job) -> LoadedModel:  # noqa: ANN401
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates TorchScript: that is the user's file, not a finding
            module = torch.jit.load(str(job.model_path), map_location="cpu").eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise _corrupt(job.model_path, "a TorchScript file", error) from error
    arguments = [item.name for item in module.forward.schema.arguments if item.name != "self"]
    return LoadedModel(
        module=module, inputs=_positional(job, arguments, None), outputs=(), source="torchscript", converted=False
    )


def _positional(job: Job, names: list[str], kinds: list[str] | None) -> dict[str, NDArray[Any]]:
    """Return seeded inputs in the order of the arguments: by name where the plan's names are theirs, else as given."""
    if len(names) != len(job.shapes):
        raise BackendError(
            f"{job.model_path.name} takes {len(names)} inputs ({', '.join(names)}), the plan gives shapes for "
            f"{', '.join(job.shapes) or 'none'}",
            code="shape_outside_profile",
            remedy="give shapes for every input in the plan",
        )
    given = names if set(names) == set(job.shapes) else list(job.shapes)
    words = {"float32": "float", "float16": "float16", "float64": "double"}
    found = [kind.removeprefix("torch.") for kind in kinds] if kinds else ["float32"] * len(names)
    specs = [
        InputSpec(name=name, kind=f"tensor({words.get(kind, kind)})", dims=tuple(job.shapes[name]))
        for name, kind in zip(given, found, strict=True)
    ]
    return make_inputs(specs, job.shapes, {}, job.seed)


def _corrupt(path: Path, what: str, error: Exception) -> BackendError:
    return BackendError(
        f"{path} cannot be read as {what}: {shorten(str(error))}",
        code="model_corrupt",
        remedy="export the model again with this version of torch",
    )
