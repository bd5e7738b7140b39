"""Workloads: the same number is the same request everywhere; lengths, prefixes, sessions and traces are kept."""

from __future__ import annotations

import itertools
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.spec import Dataset, LoadSpec, Prefixes
from enginewatch_harness.load.synthetic import build_workload, context_tokens, prepare_workload
from enginewatch_harness.load.words import WORDS

DATA = Path(__file__).parents[1] / "data" / "harness" / "load"
MOONCAKE = Dataset(path=DATA / "mooncake.jsonl")
SHAREGPT = Dataset(path=DATA / "sharegpt.json")
OWN = Dataset(path=DATA / "own.jsonl")

SPECS = {
    "closed": LoadSpec(mode="closed", isl=100),
    "varied": LoadSpec(
        mode="poisson", rate_rps=9.0, isl=300, osl=50, isl_dist="lognormal:0.6", osl_dist="uniform:20-80"
    ),
    "prefixes": LoadSpec(mode="closed", isl=90, isl_dist="normal:20", prefixes=Prefixes(groups=3, tokens=40)),
    "sessions": LoadSpec(mode="closed", isl=30, turns=4, think_time_s=0.5, osl_dist="normal:4"),
    "mooncake": LoadSpec(mode="trace", dataset=MOONCAKE),
    "sharegpt": LoadSpec(mode="closed", turns=2, dataset=SHAREGPT),
    "own": LoadSpec(mode="closed", turns=3, dataset=OWN),
    "steps": LoadSpec(mode="steps", steps=((5.0, 2.0), (20.0, 3.0))),
    "gamma": LoadSpec(mode="gamma", rate_rps=50.0, burstiness=2.0),
}


@pytest.mark.parametrize("name", SPECS)
def test_the_same_number_is_the_same_request_in_every_process_and_order(name):
    spec = SPECS[name]
    prepared = prepare_workload(spec, 7)
    one = build_workload(spec, 7, prepared=prepared)
    other = build_workload(spec, 7, prepared=pickle.loads(pickle.dumps(prepared)))  # noqa: S301 (made here)
    numbers = [random.Random(2).randrange(100_000) for _ in range(60)]
    expected = {number: (one.request(number), one.think_ns(number)) for number in numbers}
    assert {number: (other.request(number), other.think_ns(number)) for number in sorted(numbers)} == expected
    if spec.mode != "closed":
        assert list(itertools.islice(one.arrivals(), 500)) == list(itertools.islice(other.arrivals(), 500))
    if name not in ("mooncake", "sharegpt", "own"):
        assert build_workload(spec, 8).request(3) != one.request(3)


def test_a_closed_loop_has_no_arrivals_and_a_plain_one_no_pauses():
    workload = build_workload(SPECS["closed"], 1)
    assert workload.arrivals() is None
    assert workload.think_ns(4) == 0
    request = workload.request(4)
    assert (request.input_tokens, request.output_tokens, request.session, request.last_turn) == (100, 32, None, True)
    assert len(request.prompt.split()) == 100
    assert "100 words for 100 tokens" in workload.estimated


def test_lengths_are_of_the_stated_means_and_what_is_asked_for():
    workload = build_workload(SPECS["varied"], 3)
    requests = [workload.request(number) for number in range(6_000)]
    inputs = np.array([request.input_tokens for request in requests])
    assert inputs.mean() == pytest.approx(300, rel=0.05)
    assert np.array([request.output_tokens for request in requests]).mean() == pytest.approx(50, rel=0.03)
    assert [len(request.prompt.split()) for request in requests] == inputs.tolist()
    # Prompt and output lengths are drawn apart.
    assert abs(np.corrcoef(inputs, [request.output_tokens for request in requests])[0, 1]) < 0.05


def test_think_times_are_exponential_with_their_mean():
    workload = build_workload(LoadSpec(mode="closed", think_time_s=0.25), 5)
    pauses = np.array([workload.think_ns(number) for number in range(20_000)]) / 1e9
    assert pauses.mean() == pytest.approx(0.25, rel=0.03)
    assert pauses.std() == pytest.approx(0.25, rel=0.05)
    assert pauses.min() >= 0


def alike(one, other):
    return next(index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


def test_prefix_groups_share_their_beginning_and_nothing_else():
    workload = build_workload(SPECS["prefixes"], 3)
    requests = [workload.request(number) for number in range(60)]
    assert [request.prefix_group for request in requests[:4]] == [0, 1, 2, 0]
    for one, other in itertools.combinations(requests, 2):
        common = alike(one.prompt.split(), other.prompt.split())
        if one.prefix_group == other.prefix_group:
            assert 40 <= common <= 43
        else:
            assert common <= 3
    assert all(request.input_tokens == len(request.prompt.split()) for request in requests)


def test_a_session_carries_what_was_really_answered():
    workload = build_workload(SPECS["sessions"], 3)
    turn = workload.request(12)
    assert (turn.session, turn.turn, turn.last_turn, turn.history, turn.delay_ns) == (12, 0, False, (), 0)
    said = []
    meant = turn.input_tokens
    delays = []
    for index in range(1, 4):
        said += [("user", turn.prompt), ("assistant", f"answer {index}")]
        before, turn = turn, workload.next_turn(turn, f"answer {index}")
        meant += before.output_tokens + 30
        assert turn.history == tuple(said)
        assert (turn.session, turn.turn, turn.last_turn) == (12, index, index == 3)
        assert turn.input_tokens == meant
        delays.append(turn.delay_ns)
    assert len({12, *delays}) == 4
    assert len({prompt for role, prompt in said if role == "user"} | {turn.prompt}) == 4
    with pytest.raises(ValueError, match="turn 3 of session 12 was the last"):
        workload.next_turn(turn, "x")
    with pytest.raises(ValueError, match="was the last"):
        build_workload(SPECS["closed"], 1).next_turn(build_workload(SPECS["closed"], 1).request(0), "x")


def test_the_first_turn_of_a_session_has_the_prefix_and_the_others_have_it_by_their_history():
    spec = LoadSpec(mode="closed", isl=50, turns=2, prefixes=Prefixes(groups=2, tokens=20))
    workload = build_workload(spec, 1)
    one, other = workload.request(0), workload.request(2)
    assert one.prompt.split()[:20] == other.prompt.split()[:20]
    second, its_other = workload.next_turn(one, "yes"), workload.next_turn(other, "yes")
    assert second.prefix_group == 0
    assert second.prompt.split()[:3] != its_other.prompt.split()[:3]


def test_a_mooncake_trace_has_its_times_lengths_and_sharing():
    workload = build_workload(SPECS["mooncake"], 1)
    assert list(workload.arrivals()) == [0, 140_000_000, 140_000_000, 905_000_000, 2_000_000_000]
    requests = [workload.request(number) for number in range(5)]
    assert [request.input_tokens for request in requests] == [1100, 1300, 40, 1536, 600]
    assert [request.output_tokens for request in requests] == [12, 40, 7, 1, 20]
    prompts = [request.prompt.split() for request in requests]
    assert [len(prompt) for prompt in prompts] == [1100, 1300, 40, 1536, 600]
    assert prompts[0][:1024] == prompts[1][:1024]
    assert prompts[0][1024:1034] != prompts[1][1024:1034]
    assert prompts[0][:512] == prompts[3][:512]
    assert prompts[0][512:520] != prompts[3][512:520]
    fast = build_workload(LoadSpec(mode="trace", dataset=Dataset(path=MOONCAKE.path, speed=2.0)), 1)
    assert list(fast.arrivals())[3] == 452_500_000


def test_another_lap_through_a_trace_shares_nothing_with_the_one_before():
    workload = build_workload(LoadSpec(mode="closed", dataset=MOONCAKE), 1)
    first, again, also = (workload.request(number).prompt.split() for number in (0, 5, 6))
    assert len(first) == len(again)
    assert first[:8] != again[:8]
    assert again[:1024] == also[:1024]
    assert any("begins with the first again" in note for note in workload.notes)


def test_sharegpt_asks_the_recorded_questions_after_the_real_answers():
    workload = build_workload(SPECS["sharegpt"], 1)
    first = workload.request(0)
    assert first.prompt == "Which river runs through Vienna?"
    assert (first.input_tokens, first.output_tokens, first.last_turn) == (None, 8, False)
    second = workload.next_turn(first, "It is the Danube")
    assert second.prompt == 'And through "Basel", für alle Fälle?'
    assert second.history == (("user", first.prompt), ("assistant", "It is the Danube"))
    assert (second.last_turn, second.input_tokens, second.output_tokens) == (True, None, 2)
    assert workload.request(1).last_turn
    assert workload.request(2).history == (("system", "Answer in one word."),)
    assert workload.request(3).prompt == first.prompt
    assert workload.request(3).session == 3
    assert "sent as they are" in workload.estimated
    fixed = build_workload(LoadSpec(mode="closed", osl=99, osl_dist="normal:1", dataset=SHAREGPT), 1)
    assert fixed.request(0).output_tokens == pytest.approx(99, abs=6)
    assert fixed.request(0).last_turn


def test_own_lengths_sessions_and_pauses():
    workload = build_workload(SPECS["own"], 1)
    first = workload.request(0)
    assert (first.input_tokens, first.output_tokens, first.last_turn) == (20, 5, False)
    second = workload.next_turn(first, "x")
    assert (second.delay_ns, second.input_tokens, second.output_tokens) == (300_000_000, 20 + 5 + 10, 7)
    assert second.last_turn
    # A record that tells no length has the load's.
    assert (workload.request(2).input_tokens, workload.request(2).output_tokens) == (64, 8)


def test_own_messages_come_before_the_prompt():
    workload = build_workload(LoadSpec(mode="closed", dataset=Dataset(path=DATA / "own_texts.jsonl"), osl=11), 1)
    first, second = workload.request(0), workload.request(1)
    assert (first.prompt, first.output_tokens, first.input_tokens) == ('Say "hello" ✓', 4, None)
    assert (second.prompt, second.output_tokens, second.input_tokens) == ("Second", 11, 17)
    assert second.history[0] == ("system", "Be brief.")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (LoadSpec(mode="trace", dataset=SHAREGPT), "dataset with times"),
        (LoadSpec(mode="closed", dataset=MOONCAKE, prefixes=Prefixes(groups=2, tokens=4)), "no shared prefixes"),
        (LoadSpec(mode="closed", dataset=SHAREGPT, isl_dist="normal:3"), "isl_dist = 'normal:3' cannot hold"),
        (LoadSpec(mode="closed", dataset=Dataset(path=Path("absent.jsonl"))), "there is no dataset"),
        (LoadSpec(mode="closed", tokenizer=Path("absent")), "there is no tokenizer"),
        (LoadSpec(mode="burst"), "burst"),
    ],
)
def test_what_cannot_be_built_is_refused(spec, words):
    with pytest.raises(UsageError, match=words):
        build_workload(spec, 1)
    with pytest.raises(UsageError, match="seed = -1"):
        build_workload(SPECS["closed"], -1)


def test_the_servers_tokenizer_calibrates_every_process_once():
    asked = []

    def count(text: str) -> int:
        asked.append(text)
        return 2 * len(text.split()) + 1

    prepared = prepare_workload(SPECS["closed"], 1, count_tokens=count)
    calls = len(asked)
    for _ in range(3):
        workload = build_workload(SPECS["closed"], 1, prepared=prepared)
        assert count(workload.request(7).prompt) == pytest.approx(100, abs=1)
    assert len(asked) == calls + 3
    assert workload.notes == ()
    varied = build_workload(LoadSpec(mode="closed", isl=200, isl_dist="uniform:50-350"), 1, count_tokens=count)
    for number in range(50):
        request = varied.request(number)
        assert count(request.prompt) == pytest.approx(request.input_tokens, abs=2)


def test_a_server_that_does_not_count_is_the_callers_to_handle():
    def broken(text: str) -> int:
        raise OSError("no /tokenize")

    with pytest.raises(OSError, match="tokenize"):
        prepare_workload(SPECS["closed"], 1, count_tokens=broken)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    rng = random.Random(1)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([" ".join(rng.choices(WORDS, k=30)) for _ in range(300)], trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    made.save(str(path))
    return path, made


EXACT = {
    "fixed": LoadSpec(mode="closed", isl=77),
    "varied": LoadSpec(mode="closed", isl=200, isl_dist="lognormal:0.8"),
    "prefixes": LoadSpec(mode="closed", isl=200, isl_dist="normal:30", prefixes=Prefixes(groups=4, tokens=90)),
    "trace": LoadSpec(mode="trace", dataset=MOONCAKE),
}


@pytest.mark.parametrize("name", EXACT)
def test_with_a_tokenizer_prompts_are_exact_with_the_tokens_that_it_adds(tokenizer, name):
    path, made = tokenizer
    spec = LoadSpec(**{field: getattr(EXACT[name], field) for field in LoadSpec.__slots__} | {"tokenizer": path})
    prepared = prepare_workload(spec, 3)
    workload = build_workload(spec, 3, prepared=pickle.loads(pickle.dumps(prepared)))  # noqa: S301 (made here)
    assert workload.estimated is None
    for number in range(200):
        request = workload.request(number)
        assert len(made.encode(request.prompt).ids) == request.input_tokens
        if name == "fixed":
            assert request.input_tokens == 77
        if name == "trace":
            assert request.input_tokens == [1100, 1300, 40, 1536, 600][number % 5]


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), number=st.integers(0, 2**40))
def test_any_seed_and_number_will_do(seed, number):
    for name in ("varied", "prefixes", "sessions"):
        workload = build_workload(SPECS[name], seed)
        request = workload.request(number)
        assert request.prompt
        assert request.output_tokens >= 1
        assert request == build_workload(SPECS[name], seed).request(number)


@pytest.mark.parametrize(
    ("spec", "tokens"),
    [
        (LoadSpec(mode="closed", isl=100, osl=20), 120),
        (LoadSpec(mode="closed", isl=100, osl=20, turns=3), 360),
        (LoadSpec(mode="closed", isl=100, osl=20, isl_dist="uniform:50-150", osl_dist="normal:2"), 150 + 30),
        (LoadSpec(mode="trace", dataset=MOONCAKE), 1536 + 40),
        (LoadSpec(mode="trace", isl=50, isl_dist="uniform:1-99", dataset=OWN), 99 + 32),
    ],
)
def test_a_server_is_told_the_longest_request(spec, tokens):
    assert context_tokens(spec) == tokens
