"""The requests of a load as ``trtllm-bench --dataset`` reads them: one JSON object a line. Pure, but for datasets.

Each has ``task_id``, ``output_tokens``, and ``input_ids`` or ``prompt`` (``tensorrt_llm/bench/utils/data.py``). Token
ids make lengths exact without a tokenizer; texts are sent where the load names a tokenizer or a dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from enginewatch_db.errors import PlanError
from enginewatch_harness.load.draws import generator
from enginewatch_harness.load.lengths import parse_lengths, sampler
from enginewatch_harness.load.spec import LoadSpec
from enginewatch_harness.load.synthetic import build_workload

FIRST_ID = 100
"""Special tokens have the first ids in some vocabularies, and the last in others."""

MOST_IDS = 20_000
"""Every vocabulary in use has more ordinary tokens than this."""


def dataset_lines(load: LoadSpec, *, seed: int, requests: int, vocab_size: int | None) -> Iterator[str]:
    """Yield the lines of a dataset; the same arguments give the same ones.

    Args:
        load: How long the requests are.
        seed: Of lengths and prompts.
        requests: How many.
        vocab_size: Tokens of the model's vocabulary; ``None`` where unknown.

    Raises:
        PlanError: A dataset whose messages have a history.
        UsageError: A distribution, a dataset or a tokenizer that cannot be obeyed.
    """
    if load.tokenizer is not None or load.dataset is not None:
        yield from _texts(load, seed, requests)
        return
    inputs = sampler(parse_lengths(load.isl_dist, load.isl, name="isl"), seed, "isl")
    outputs = sampler(parse_lengths(load.osl_dist, load.osl, name="osl"), seed, "osl")
    shared = 0 if load.prefixes is None else load.prefixes.tokens
    highest = max(FIRST_ID + 1, min(vocab_size or MOST_IDS, MOST_IDS))
    for number in range(requests):
        length = inputs(number)
        ids: list[int] = []
        if load.prefixes is not None:
            group = number % load.prefixes.groups
            ids = _ids(seed, "trtllm-prefix", group, min(shared, max(1, length) - 1), highest)
        ids += _ids(seed, "trtllm-ids", number, max(1, length - len(ids)), highest)
        yield json.dumps({"task_id": number, "input_ids": ids, "output_tokens": outputs(number)})


def _ids(seed: int, tag: str, index: int, count: int, highest: int) -> list[int]:
    low = min(FIRST_ID, highest - 1)
    found: list[int] = generator(seed, tag, index).integers(low, highest, size=count).tolist()
    return found


def _texts(load: LoadSpec, seed: int, requests: int) -> Iterator[str]:
    workload = build_workload(load, seed)
    for number in range(requests):
        planned = workload.request(number)
        if planned.history:
            raise PlanError(
                "trtllm-bench cannot send messages with a history, which the dataset has",
                remedy='use backends = ["openai"] with options.profile = "trtllm"',
            )
        yield json.dumps({"task_id": number, "prompt": planned.prompt, "output_tokens": planned.output_tokens})
