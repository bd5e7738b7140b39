"""How far outputs are from the fp32 reference on the same inputs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import MeasurementError
from enginewatch_db.metrics import MetricValue

ACCURACY_METRICS = ("output_rel_l2", "output_max_abs", "output_cosine", "output_top1_agreement_pct")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The accuracy metrics, and what the provenance should say of them."""

    metrics: tuple[MetricValue, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One measure of one output; ``value`` is ``None`` where it has none, with why; ``broken``: by the engine."""

    output: str
    value: float | None
    n: int = 0
    why: str | None = None
    broken: bool = False


Batches = Mapping[str, Sequence[NDArray[Any]]]
"""Name of an output → its values in each batch."""


def accuracy_metrics(outputs: Batches, reference: Batches) -> Checked:
    """Compare each output over all of its batches, and keep the worst: large outputs must not hide small ones.

    ``|y - r| / |r|`` and ``max |y - r|`` at their largest, ``y·r / (|y| |r|)`` and top-1 agreement at their least.
    Outputs of whole numbers, truth values or texts have no distance: they are compared exactly, and a note says where
    they differ.

    Args:
        outputs: Outputs of the engine.
        reference: Outputs of the fp32 model for the same batches.
    """
    for name, batches in reference.items():
        if [item.shape for item in outputs[name]] != [item.shape for item in batches]:
            return Checked(
                metrics=absent_accuracy(f"the engine's output {name!r} has other shapes than the fp32 model's")
            )
    measured = [name for name, batches in reference.items() if np.issubdtype(batches[0].dtype, np.floating)]
    exact = [note for name in reference if name not in measured for note in _exact(name, outputs, reference)]
    measured = [name for name in measured if any(item.size for item in reference[name])]
    if not measured:
        return Checked(metrics=absent_accuracy("the model has no floating-point output"), notes=tuple(exact))
    found = [_measure(name, outputs[name], reference[name]) for name in measured]
    worst = [_worst(metric, [each[metric] for each in found]) for metric in ACCURACY_METRICS]
    named = _named(worst, len(measured))
    return Checked(metrics=tuple(map(_metric, ACCURACY_METRICS, worst)), notes=(*named, *exact))


def _measure(name: str, outputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]]) -> dict[str, _Found]:
    got, want = _flatten(outputs), _flatten(reference)
    norm_got, norm_want = float(np.linalg.norm(got)), float(np.linalg.norm(want))
    silent = None if norm_want > 0 else "the fp32 output is all zeros"
    dead = silent or (None if norm_got > 0 else f"the engine's output {name!r} is all zeros")
    values = {
        "output_rel_l2": (None if silent else float(np.linalg.norm(got - want)) / norm_want, got.size, silent),
        "output_max_abs": (float(np.max(np.abs(got - want))), got.size, None),
        "output_cosine": (None if dead else float(got @ want) / (norm_got * norm_want), got.size, dead),
        "output_top1_agreement_pct": _top1(outputs, reference),
    }
    broken = silent is None and dead is not None
    return {
        metric: _Found(output=name, value=value, n=n, why=why, broken=broken and why == dead)
        for metric, (value, n, why) in values.items()
    }


def _top1(outputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]]) -> tuple[float | None, int, str | None]:
    """Return the share of rows (all dimensions but the last) whose largest value is at the same place."""
    pairs = [
        (got, want)
        for got, want in zip(outputs, reference, strict=True)
        if want.ndim >= 2 and want.shape[-1] > 1 and want.size
    ]
    if not pairs:
        return None, 0, "no output has rows to take the largest value of"
    same = np.concatenate([(got.argmax(axis=-1) == want.argmax(axis=-1)).ravel() for got, want in pairs])
    return 100.0 * float(same.mean()), same.size, None


_LARGEST_IS_WORST = frozenset({"output_rel_l2", "output_max_abs"})


def _worst(metric: str, found: Sequence[_Found]) -> _Found:
    """Return the worst of the outputs that have this measure.

    An engine's output of nothing but zeros, where the fp32 one is not, has no cosine: then no other one stands for it.
    """
    broken = [item for item in found if item.broken]
    known = [item for item in found if item.value is not None]
    if broken or not known:
        return (broken or list(found))[0]
    pick = max if metric in _LARGEST_IS_WORST else min
    return pick(known, key=lambda item: item.value or 0.0)


def _metric(metric: str, worst: _Found) -> MetricValue:
    if worst.value is None:
        return _absent(metric, worst.why or "unknown")
    return MetricValue(metric=metric, value=worst.value, n=worst.n)


def _named(worst: Sequence[_Found], count: int) -> tuple[str, ...]:
    """Return the note that says which of several outputs each metric is of."""
    if count < 2:
        return ()
    by_output: dict[str, list[str]] = {}
    for metric, item in zip(ACCURACY_METRICS, worst, strict=True):
        if item.value is not None:
            by_output.setdefault(item.output, []).append(metric)
    listed = "; ".join(f"{name!r} ({', '.join(metrics)})" for name, metrics in by_output.items())
    return (f"accuracy is of the worst of {count} outputs: {listed}",)


def _exact(name: str, outputs: Batches, reference: Batches) -> list[str]:
    pairs = zip(outputs[name], reference[name], strict=True)
    same = np.concatenate([np.asarray(got == want, dtype=bool).ravel() for got, want in pairs])
    if same.all():
        return []
    # Rounded down: a share that is not whole never reads 100 %.
    share = np.floor(10_000 * same.mean()) / 100
    return [f"output {name!r}: {share:g} % of {same.size} values ({reference[name][0].dtype}) equal the fp32 model's"]


def absent_accuracy(why: str) -> tuple[MetricValue, ...]:
    """Return the accuracy metrics as absent."""
    return tuple(_absent(metric, why) for metric in ACCURACY_METRICS)


def not_finite(names: Sequence[str], outputs: Sequence[NDArray[Any]]) -> list[str]:
    """Return, in words, the outputs with NaN or infinity."""
    found = []
    for name, values in zip(names, outputs, strict=True):
        if np.issubdtype(values.dtype, np.floating):
            bad = int(values.size - np.count_nonzero(np.isfinite(values)))
            if bad:
                found.append(f"{name}: {bad} of {values.size} values")
    return found


def refuse_not_finite(case_key: str, names: Sequence[str], outputs: Sequence[NDArray[Any]]) -> None:
    """Check outputs for NaN and infinity.

    Raises:
        MeasurementError: ``output_not_finite``, with the outputs and how many of their values.
    """
    if bad := not_finite(names, outputs):
        raise MeasurementError(
            f"{case_key}: the output is not finite ({'; '.join(bad)})",
            code="output_not_finite",
            remedy="check the precision and the weights",
        )


def _flatten(arrays: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([item.astype(np.float64).ravel() for item in arrays])


def _absent(metric: str, why: str) -> MetricValue:
    return MetricValue(metric=metric, value=None, absent_reason=why)
