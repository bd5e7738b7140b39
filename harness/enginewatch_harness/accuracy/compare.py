"""How far outputs are from the fp32 reference on the same inputs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enginewatch_db.errors import MeasurementError
from enginewatch_db.metrics import MetricValue

ACCURACY_METRICS = ("output_rel_l2", "output_max_abs", "output_cosine", "output_top1_agreement_pct")


def accuracy_metrics(outputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]]) -> tuple[MetricValue, ...]:
    """Compare all outputs as one vector: ``|y - r| / |r|``, ``max |y - r|`` and ``y·r / (|y| |r|)``.

    Args:
        outputs: Outputs of the engine.
        reference: Outputs of the fp32 model, in the same order.

    Top-1 agreement is over all rows (every dimension but the last) of the outputs that have any.
    """
    if [item.shape for item in outputs] != [item.shape for item in reference]:
        return absent_accuracy("the engine's outputs have other shapes than the fp32 model's")
    numeric = [np.issubdtype(item.dtype, np.number) for item in reference]
    got, want = _flatten(outputs, numeric), _flatten(reference, numeric)
    if got.size == 0:
        return absent_accuracy("the model has no numeric output")
    norm_got, norm_want = float(np.linalg.norm(got)), float(np.linalg.norm(want))
    distance = float(np.linalg.norm(got - want))
    return (
        _value("output_rel_l2", distance / norm_want, got.size)
        if norm_want > 0
        else _absent("output_rel_l2", "the fp32 output is all zeros"),
        _value("output_max_abs", float(np.max(np.abs(got - want))), got.size),
        _value("output_cosine", float(got @ want) / (norm_got * norm_want), got.size)
        if norm_want > 0 and norm_got > 0
        else _absent("output_cosine", "an output is all zeros"),
        _top1(outputs, reference),
    )


def _top1(outputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]]) -> MetricValue:
    """Return the share of rows (all dimensions but the last) whose largest value is at the same place."""
    pairs = [
        (got, want)
        for got, want in zip(outputs, reference, strict=True)
        if want.ndim >= 2 and want.shape[-1] > 1 and want.size and np.issubdtype(want.dtype, np.floating)
    ]
    if not pairs:
        return _absent("output_top1_agreement_pct", "no output has rows to take the largest value of")
    same = np.concatenate([(got.argmax(axis=-1) == want.argmax(axis=-1)).ravel() for got, want in pairs])
    return _value("output_top1_agreement_pct", 100.0 * float(same.mean()), same.size)


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


def _flatten(arrays: Sequence[NDArray[Any]], numeric: Sequence[bool]) -> NDArray[np.float64]:
    chosen = [item.astype(np.float64).ravel() for item, take in zip(arrays, numeric, strict=True) if take]
    return np.concatenate(chosen) if chosen else np.empty(0)


def _value(metric: str, value: float, n: int) -> MetricValue:
    return MetricValue(metric=metric, value=value, n=n)


def _absent(metric: str, why: str) -> MetricValue:
    return MetricValue(metric=metric, value=None, absent_reason=why)
