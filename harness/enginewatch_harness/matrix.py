"""From a plan to its cases, and their order. Pure."""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enginewatch_db.errors import PlanError
from enginewatch_db.model import Json
from enginewatch_harness.backends.option_values import refuse_foreign
from enginewatch_harness.gpu_choice import ALL, same_product, slug
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.plan_file import PRECISIONS, ExcludeTable, ModelTable, PlanFile, WorkloadTable
from enginewatch_harness.plan_load import profiles, token_part

if TYPE_CHECKING:
    from enginewatch_collector.backends.nvml_devices import GpuDevice

UsesGpu = Callable[[str, Json], bool]
"""Backend and options → whether its cases run on a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One cell of the matrix.

    Attributes:
        key: Readable and unique in the plan: ``workload/backend/precision/b8`` or ``.../c4``; the GPU's short name
            follows where a workload names more than one.
        batch: ``None`` for servers.
        shapes: Input name → dimensions without the batch; only the inputs that the plan names.
        load: ``None`` for engines.
        options: The workload's, and over them those for this backend.
        on_gpu: Whether it runs on a GPU.
        gpu: Product or UUID that the plan asks for, or ``all``; ``None``: any GPU.
        bound: The device of this host that it runs on; ``None`` off GPUs, and before it is placed.
        elsewhere: Why this host leaves it for another; ``None`` where it can run here.
    """

    key: str
    workload: str
    model: ModelTable
    backend: str
    precision: str
    warmup_s: float
    duration_s: float
    batch: int | None = None
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    load: LoadSpec | None = None
    options: Json = field(default_factory=dict)
    on_gpu: bool = False
    gpu: str | None = None
    bound: GpuDevice | None = None
    elsewhere: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One run to do: a case in one repeat, at a place in the order."""

    case: Case
    repeat: int
    order_idx: int


def expand(
    plan: PlanFile,
    backends: tuple[str, ...],
    *,
    uses_gpu: UsesGpu = lambda _backend, _options: False,
    products: Callable[[], tuple[str, ...]] = tuple,
) -> tuple[Case, ...]:
    """Return the cases of a plan in the order in which it names them.

    Args:
        plan: The plan.
        backends: Names of the installed backends, for the nearest-name hint.
        uses_gpu: Which of them run on a GPU.
        products: The GPU products of this host, asked for only where the plan says ``all``.

    Raises:
        PlanError: A name that is not declared, a name given twice, or no case left.
    """
    models = {model.name: model for model in plan.model}
    _refuse_doubles("model", [model.name for model in plan.model])
    _refuse_doubles("workload", [workload.name for workload in plan.workload])
    cases: list[Case] = []
    for workload in plan.workload:
        _check_names(workload, models, backends)
        cases.extend(_cases_of(plan, workload, models[workload.model], uses_gpu, products))
    kept = _exclude(cases, plan.exclude)
    if not kept:
        raise PlanError(
            f"plan {plan.name!r} has no case left: its {len(cases)} cases are all excluded",
            remedy="remove an [[exclude]] table",
        )
    _refuse_doubles("case", [case.key for case in kept])
    return tuple(kept)


def order(cases: tuple[Case, ...], repeats: int, seed: int) -> tuple[Turn, ...]:
    """Return the runs of a session: in each repeat every case once, in a seeded random order.

    Randomised complete blocks: drift of the machine hits all cases alike, and no case always follows another.
    """
    generator = random.Random(seed)  # noqa: S311 (an order, not a secret)
    turns: list[Turn] = []
    for repeat in range(repeats):
        block = list(cases)
        generator.shuffle(block)
        first = len(turns)
        turns.extend(Turn(case=case, repeat=repeat, order_idx=first + i) for i, case in enumerate(block))
    return tuple(turns)


def estimate_s(cases: tuple[Case, ...], repeats: int, overhead_s: float = 1.5) -> float:
    """Return the seconds that measuring takes: warm-up, window and about 1.5 s of process start per run."""
    return repeats * sum(case.warmup_s + case.duration_s + overhead_s for case in cases)


def _refuse_doubles(what: str, names: list[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise PlanError(f"{what} {doubled[0]!r} is given {names.count(doubled[0])} times", remedy="rename one")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def _check_names(workload: WorkloadTable, models: dict[str, ModelTable], backends: tuple[str, ...]) -> None:
    where = f"workload {workload.name!r}"
    if workload.model not in models:
        raise PlanError(f"{where} names model {workload.model!r}: {_nearest(workload.model, tuple(models))}")
    for backend in workload.backends:
        if backend not in backends:
            raise PlanError(f"{where} names backend {backend!r}: {_nearest(backend, backends)}")
    for backend, options in workload.backend_options.items():
        refuse_foreign(options, backend)
        if backend not in workload.backends:
            raise PlanError(
                f"{where} has backend_options for {backend!r}, which it does not run: "
                f"{_nearest(backend, tuple(workload.backends))}"
            )
    for precision in workload.precisions:
        if precision not in PRECISIONS:
            raise PlanError(f"{where} names precision {precision!r}: {_nearest(precision, PRECISIONS)}")


def _cases_of(
    plan: PlanFile,
    workload: WorkloadTable,
    model: ModelTable,
    uses_gpu: UsesGpu,
    products: Callable[[], tuple[str, ...]],
) -> Iterator[Case]:
    for backend in workload.backends:
        options = {**workload.options, **workload.backend_options.get(backend, {})}
        on_gpu = uses_gpu(backend, options)
        gpus = _gpus_of(plan, workload, products) if on_gpu else [(None, "")]
        for precision in workload.precisions:
            for suffix, batch, load in _feeds(workload):
                for gpu, part in gpus:
                    yield Case(
                        key=f"{workload.name}/{backend}/{precision}/{suffix}{part}",
                        workload=workload.name,
                        model=model,
                        backend=backend,
                        precision=precision,
                        warmup_s=plan.measure.warmup_s if workload.warmup_s is None else workload.warmup_s,
                        duration_s=plan.measure.duration_s if workload.duration_s is None else workload.duration_s,
                        batch=batch,
                        shapes={name: tuple(dims) for name, dims in workload.shapes.items()},
                        load=load,
                        options=dict(options),
                        on_gpu=on_gpu,
                        gpu=gpu,
                    )


def _gpus_of(
    plan: PlanFile, workload: WorkloadTable, products: Callable[[], tuple[str, ...]]
) -> list[tuple[str | None, str]]:
    """Return each GPU that the workload names, with its part of the key: none where it names only one."""
    named = plan.gpus if workload.gpus is None else workload.gpus
    if not any(name.lower() == ALL for name in named):
        several = len(named) > 1
        return [(name, f"/{slug(name)}" if several else "") for name in named] or [(None, "")]
    if len(named) > 1:
        raise PlanError(
            f"workload {workload.name!r} runs on gpus {named}: {ALL!r} stands for every product",
            remedy=f'write gpus = ["{ALL}"], or name the products',
        )
    # Another host has other products: so the key names the product here, even where it is the only one.
    return [(name, f"/{slug(name)}") for name in products()] or [(ALL, "")]


def _feeds(workload: WorkloadTable) -> Iterator[tuple[str, int | None, LoadSpec | None]]:
    for batch in workload.batches:
        yield f"b{batch}", batch, None
    found = [item for table in workload.load for item in profiles(table)]
    # Lengths are in the keys only where they tell cases apart or say more than the plan's two numbers.
    tokens = {token_part(load) for _, load in found}
    shown = len(tokens - {""}) > 1 or any(load.isl_dist or load.osl_dist for _, load in found)
    for suffix, load in found:
        yield f"{suffix}{token_part(load) if shown else ''}", None, load


def _exclude(cases: list[Case], tables: list[ExcludeTable]) -> list[Case]:
    kept = cases
    for number, table in enumerate(tables):
        given = table.model_dump(exclude_none=True)
        left = [case for case in kept if not given or not _matches(case, given)]
        if len(left) == len(kept):
            raise PlanError(f"exclude[{number}] {given} matches no case", remedy="correct or remove it")
        kept = left
    return kept


def _matches(case: Case, given: Json) -> bool:
    facts = {
        "workload": case.workload,
        "backend": case.backend,
        "precision": case.precision,
        "batch": case.batch,
        "concurrency": case.load.concurrency if case.load and case.load.mode == "closed" else None,
    }
    if "gpu" in given and (case.gpu is None or not same_product(case.gpu, given["gpu"])):
        return False
    return all(facts[key] == value for key, value in given.items() if key != "gpu")
