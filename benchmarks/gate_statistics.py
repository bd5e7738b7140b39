"""False alarms and power of the gate against two naive peers, simulated: ``python -m benchmarks gate_statistics``.

Each simulated judgement has six cases: four unchanged, one 5 % slower, one 10 % slower, K runs a side. The gate sees
one value per run, its within-run interval and the host sentinel, as in a store, and goes through ``decide`` with the
default policy, correction over the family included. The peers see 200 raw samples per run of the same cases:

* pooled Mann-Whitney: all samples of a side in one pot, slower at one-sided p < 1 %;
* fixed 5 %: the median of the first run of each side, slower by more than 5 %.

At +5 % the gate's threshold of 5 % is the truth itself: it must not call that regressed, and rightly says inconclusive.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from enginewatch_ci.decide import decide
from enginewatch_ci.facts import Arm, RunFacts, SessionFacts
from enginewatch_ci.policy import Policy, parse_policy
from enginewatch_db.metrics import MetricValue
from enginewatch_db.model import RunStatus, Verdict

SEED = 20_270
JUDGEMENTS = 40
SAMPLES = 200
WITHIN_SD = 0.03
SESSION_SD = 0.02
CASES = {"same1": 0.0, "same2": 0.0, "same3": 0.0, "same4": 0.0, "slow05": 0.05, "slow10": 0.10}
CPU = "a processor (2 cores)"
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table."""

    noise: str
    run_sd: float
    runs: int


def run_noise(rng: np.random.Generator, setting: Setting, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return log run effects: normal, or Student's t with 3 degrees of freedom at the same sd."""
    if setting.noise == "heavy":
        return setting.run_sd * rng.standard_t(3, size) / math.sqrt(3)
    return rng.normal(0.0, setting.run_sd, size)


def simulate(rng: np.random.Generator, setting: Setting, shifts: NDArray[np.float64]) -> tuple[NDArray, float]:
    """Return raw samples in ms, shape (cases, runs, samples), and what the sentinel sees of the session."""
    drifts = setting.noise.startswith("drift")
    session = rng.normal(0.0, SESSION_SD) if drifts else 0.0
    runs = run_noise(rng, setting, (len(shifts), setting.runs)) + np.log1p(shifts)[:, None] + session
    samples = np.exp(runs[..., None] + rng.normal(0.0, WITHIN_SD, (*runs.shape, SAMPLES)))
    return samples, session if setting.noise == "drift, seen" else 0.0


def arm(rng: np.random.Generator, name: str, samples: NDArray[np.float64], host: float) -> Arm:
    """Return an arm as the store would give it."""
    half = 1.25 * WITHIN_SD * 1.96 / math.sqrt(SAMPLES)
    runs = []
    for case, of_case in zip(CASES, samples, strict=True):
        for number, values in enumerate(of_case):
            median = float(np.median(values))
            metrics = {
                "latency_p50_ms": MetricValue(
                    metric="latency_p50_ms", value=median, ci_low=median * (1 - half), ci_high=median * (1 + half)
                ),
                "host_sentinel_ms": MetricValue(
                    metric="host_sentinel_ms", value=1.5 * math.exp(host + rng.normal(0.0, 0.005))
                ),
            }
            runs.append(
                RunFacts(
                    run_id=f"{name}-{case}-{number}",
                    session_id=name,
                    case_key=case,
                    series_id=case,
                    identity={"device": CPU},
                    status=RunStatus.OK,
                    valid=True,
                    metrics=metrics,
                )
            )
    session = SessionFacts(session_id=name, plan_name="simulated", started_at=START)
    return Arm(ref=name, sessions=(session,), runs=tuple(runs))


def peers(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[bool, bool]:
    """Return what pooled Mann-Whitney and the fixed 5 % say about one case."""
    pooled = stats.mannwhitneyu(after.ravel(), before.ravel(), alternative="greater").pvalue < 0.01
    single = float(np.median(after[0])) > 1.05 * float(np.median(before[0]))
    return bool(pooled), single


def evaluate(setting: Setting, policy: Policy) -> dict[str, NDArray[np.float64]]:
    """Return method → share called slower of the unchanged, the +5 % and the +10 % cases."""
    rng = np.random.default_rng([SEED, setting.runs, round(setting.run_sd * 1000), len(setting.noise)])
    shifts = np.array(list(CASES.values()))
    called = {name: np.zeros(len(CASES)) for name in ("gate", "Mann-Whitney", "fixed 5 %")}
    for number in range(JUDGEMENTS):
        before, host_before = simulate(rng, setting, np.zeros_like(shifts))
        after, host_after = simulate(rng, setting, shifts)
        decision = decide(
            arm(rng, f"b{number}", before, host_before), arm(rng, f"c{number}", after, host_after), policy
        )
        verdicts = {item.case_key: item.verdict for item in decision.comparisons}
        for index, case in enumerate(CASES):
            pooled, single = peers(before[index], after[index])
            called["gate"][index] += verdicts[case] is Verdict.REGRESSED
            called["Mann-Whitney"][index] += pooled
            called["fixed 5 %"][index] += single
    return {
        name: np.array([counts[:4].sum() / 4, counts[4], counts[5]]) / JUDGEMENTS for name, counts in called.items()
    }


def main() -> None:
    started = time.monotonic()
    policy = parse_policy({"gate": {"metrics": ["latency_p50_ms"]}}, "benchmark")
    floor = 1 / (4 * JUDGEMENTS)
    print(f"share called slower; {JUDGEMENTS} judgements of 6 cases a line, false alarms from {4 * JUDGEMENTS} cases")
    triple = "gate      MW   fixed"
    print(f"{'':24s} | {'false alarms (0 %)':>22s} | {'+5 %':>22s} | {'+10 %':>22s} | alarms")
    print(f"{'noise':13s} run sd  K | {triple:>22s} | {triple:>22s} | {triple:>22s} | MW/gate")
    for noise in ("normal", "heavy", "drift, seen", "drift, unseen"):
        for run_sd in (0.01, 0.02):
            for runs in (3, 5, 10):
                found = evaluate(Setting(noise, run_sd, runs), policy)
                columns = [
                    "  ".join(f"{found[method][index]:6.1%}" for method in ("gate", "Mann-Whitney", "fixed 5 %"))
                    for index in range(3)
                ]
                alarms = found["gate"][0]
                ratio = found["Mann-Whitney"][0] / max(alarms, floor)
                sign = ">" if alarms == 0 else " "
                print(f"{noise:13s} {run_sd:6.0%} {runs:2d} | {' | '.join(columns)} | {sign}{ratio:4.0f}")
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
