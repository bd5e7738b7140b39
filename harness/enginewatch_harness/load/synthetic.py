"""Requests by number, from a spec and a seed: what the load generator sends. Pure, once it is prepared.

``prepare_workload`` does once, in the parent, what reads files, counts tokens or asks the server; what it returns
can be pickled. ``build_workload`` makes the same workload of it in every client process, in a few milliseconds.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from enginewatch_db.errors import UsageError
from enginewatch_harness.load.arrivals import schedule
from enginewatch_harness.load.check import check_spec
from enginewatch_harness.load.datasets import BLOCK_TOKENS, UNTOLD, Records, read_dataset
from enginewatch_harness.load.draws import Draws
from enginewatch_harness.load.exact import ExactWriter, MeasuredWriter, TokenTable, learn
from enginewatch_harness.load.lengths import DATA, Lengths, parse_lengths, sampler
from enginewatch_harness.load.prompts import (
    SEQUENCE_WORDS,
    EstimatedWriter,
    PromptLength,
    PromptSource,
    Writer,
    calibrate,
)
from enginewatch_harness.load.spec import CLOSED, LoadSpec
from enginewatch_harness.load.tokenizer import TextCounter, open_tokenizer
from enginewatch_harness.load.workload import PlannedRequest

_PREFIX_NUMBERS = 1 << 22
"""Shared texts have numbers from here on: none is a text of the first four million requests."""

_ARRIVALS = 1
"""Tells the stream of random numbers from the others of the same seed."""

_RETURN = "the dataset has {count} {what}; after the last, the load begins with the first again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What all client processes share. Made once in the parent; can be pickled.

    Attributes:
        spec: The load.
        seed: Seed of everything.
        length: Calibrated or estimated prompt length; ``None`` with a tokenizer.
        table: What there is to know of the tokenizer; ``None`` without.
        records: The dataset; ``None`` without.
    """

    spec: LoadSpec
    seed: int
    length: PromptLength | None = None
    table: TokenTable | None = None
    records: Records | None = None

    @property
    def longest(self) -> tuple[int, int]:
        """Tokens of the longest prompt and the longest output; each turn of a session adds both to its history.

        Where the dataset's prompts are texts, the first is an estimate of four characters a token.
        """
        spec, records = self.spec, self.records
        found = []
        for name, text in (("isl", spec.isl_dist), ("osl", spec.osl_dist)):
            lengths = parse_lengths(text, getattr(spec, name), name=name)
            highest = lengths.high or round(lengths.mean)
            if records is not None and text in (None, DATA):
                highest = max(highest, max(records.inputs if name == "isl" else records.outputs))
            found.append(highest)
        if records is not None and records.prompts:
            found[0] = max(found[0], max(len(text) for text in records.prompts) // 4)
        return found[0], found[1]


def context_tokens(spec: LoadSpec) -> int:
    """Return the tokens of the longest request with its history and its answer; reads the dataset.

    Raises:
        UsageError: A distribution or dataset that cannot be obeyed.
    """
    records = None
    if spec.dataset is not None:
        records = read_dataset(spec.dataset, turns=spec.turns, count_answers=None)
    return spec.turns * sum(Prepared(spec=spec, seed=0, records=records).longest)


def prepare_workload(spec: LoadSpec, seed: int, *, count_tokens: Callable[[str], int] | None = None) -> Prepared:
    """Do once what needs files, the tokenizer or the server.

    Args:
        spec: The load.
        seed: Seed of prompts, lengths, pauses and arrivals.
        count_tokens: The server's tokenizer, to calibrate prompt lengths where the spec names no tokenizer;
            what it raises is raised here, and the caller may then prepare without it.

    Raises:
        UsageError: A spec, dataset or tokenizer that cannot be obeyed.
        NotAvailableError: The spec names a tokenizer and the package ``tokenizers`` is absent.
    """
    check_spec(spec)
    if seed < 0:
        raise UsageError(f"seed = {seed} must be 0 or more")
    counter = open_tokenizer(spec.tokenizer) if spec.tokenizer is not None else None
    records = None
    if spec.dataset is not None:
        records = read_dataset(spec.dataset, turns=spec.turns, count_answers=counter.count_answers if counter else None)
        _check_records(spec, records)
    if records is not None and records.prompts:
        return Prepared(spec=spec, seed=seed, records=records)
    if counter is not None:
        return Prepared(spec=spec, seed=seed, records=records, table=learn(counter))
    longest = _longest_words(spec, records)
    typical = _typical(spec, records)
    length = PromptLength(words=min(typical, longest), tokens=typical)
    if count_tokens is not None:
        length = calibrate(typical, PromptSource(seed, longest_words=longest), count_tokens, longest_words=longest)
    return Prepared(spec=spec, seed=seed, records=records, length=length)


def build_workload(
    spec: LoadSpec,
    seed: int,
    *,
    prepared: Prepared | None = None,
    count_tokens: Callable[[str], int] | None = None,
) -> SyntheticWorkload:
    """Return the workload of a spec and a seed.

    Args:
        spec: The load.
        seed: Seed of everything.
        prepared: What ``prepare_workload`` returned for the same spec and seed; ``None`` prepares here.
        count_tokens: As for ``prepare_workload``; not used with ``prepared``.

    Raises:
        UsageError: As ``prepare_workload``.
        NotAvailableError: As ``prepare_workload``.
    """
    return SyntheticWorkload(prepared or prepare_workload(spec, seed, count_tokens=count_tokens))


def _check_records(spec: LoadSpec, records: Records) -> None:
    if spec.mode == "trace" and records.at_ns is None:
        raise UsageError(
            "load mode 'trace' needs a dataset with times, and this one has none",
            remedy="add timestamp_ms to each line, or use a mode with rate_rps",
        )
    if not records.prompts and not records.block_ends:
        return
    what = "texts" if records.prompts else "hash_ids"
    if spec.prefixes is not None:
        raise UsageError(
            f"the dataset brings prompts of its own ({what}), so they have no shared prefixes",
            remedy="leave prefixes or the dataset out",
        )
    if spec.isl_dist not in (None, DATA):
        raise UsageError(
            f"the dataset brings prompts of its own ({what}), so isl_dist = {spec.isl_dist!r} cannot hold",
            remedy="leave isl_dist out",
        )


def _typical(spec: LoadSpec, records: Records | None) -> int:
    """Return the prompt length to calibrate at: the mean, or the median of recorded ones."""
    told = sorted(tokens for tokens in records.inputs if tokens != UNTOLD) if records is not None else []
    return told[len(told) // 2] if told and spec.isl_dist in (None, DATA) else spec.isl


def _longest_words(spec: LoadSpec, records: Records | None) -> int:
    highest = parse_lengths(spec.isl_dist, spec.isl, name="isl").high or spec.isl
    told = max(records.inputs) if records is not None else 0
    # Tokens can be longer than a word; twice as many words serve for two words a token.
    return max(SEQUENCE_WORDS, 2 * highest, 2 * told)


def _writer(prepared: Prepared, counter: TextCounter | None) -> Writer | None:
    spec, seed = prepared.spec, prepared.seed
    longest = _longest_words(spec, prepared.records)
    if prepared.table is not None:
        exact = ExactWriter(prepared.table, seed, longest=longest)
        return exact if counter is None else MeasuredWriter(exact, counter.count)
    if prepared.length is None:
        return None
    return EstimatedWriter(PromptSource(seed, longest_words=longest), prepared.length, longest_words=longest)


class SyntheticWorkload:
    """Requests by number, see ``workload.Workload``.

    Attributes:
        estimated: Why prompt lengths are estimates; ``None`` where a tokenizer made them exact.
        notes: What a reader of the numbers needs to know.
    """

    def __init__(self, prepared: Prepared) -> None:
        spec, seed = prepared.spec, prepared.seed
        self._spec, self._seed, self._records = spec, seed, prepared.records
        table = prepared.table
        counter = None
        if table is not None and not table.additive and spec.tokenizer is not None:
            counter = open_tokenizer(spec.tokenizer)
        self._writer = _writer(prepared, counter)
        self._added = self._writer.added if self._writer is not None else 0
        self._isl = _Length(spec.isl_dist, spec.isl, seed, "isl", prepared.records)
        self._osl = _Length(spec.osl_dist, spec.osl, seed, "osl", prepared.records)
        self._think: Callable[[int], int] | None = None
        if spec.think_time_s > 0:
            mean_ns = spec.think_time_s * 1e9
            self._think = Draws(seed, "think", lambda rng, count: rng.exponential(mean_ns, count).astype("int64")).at
        self._lap_blocks = 0
        if self._records is not None and self._records.blocks:
            self._lap_blocks = max(self._records.blocks) + 1
        self.estimated = self._why_estimated()
        self.notes = tuple(self._notes(prepared, joins=counter is not None))

    # --- the protocol

    def arrivals(self) -> Iterator[int] | None:
        """Return the offsets of the open loop in ns, ascending, finite for steps and traces; else ``None``."""
        if self._spec.mode == CLOSED:
            return None
        recorded = self._records.starts_ns() if self._spec.mode == "trace" and self._records else None
        return schedule(self._spec, [self._seed, _ARRIVALS], recorded)

    def request(self, number: int) -> PlannedRequest:
        """Return request ``number``, or the first turn of session ``number``."""
        return self._turn(number, 0, history=(), before_tokens=0, delay_ns=0)

    def next_turn(self, before: PlannedRequest, answer: str) -> PlannedRequest:
        """Return the turn after ``before``, which was answered with that text.

        Raises:
            ValueError: ``before`` was the last.
        """
        if before.last_turn or before.session is None:
            raise ValueError(f"turn {before.turn} of session {before.session} was the last")
        told = before.input_tokens
        turn = before.turn + 1
        return self._turn(
            before.session,
            turn,
            history=(*before.history, ("user", before.prompt), ("assistant", answer)),
            before_tokens=None if told is None else told + before.output_tokens,
            delay_ns=self._delay_ns(before.session, turn),
        )

    def think_ns(self, number: int) -> int:
        """Return how long the stream pauses after request or session ``number``; 0 without a think time."""
        return self._think(number * self._spec.turns) if self._think is not None else 0

    # --- how

    def _turn(
        self,
        number: int,
        turn: int,
        *,
        history: tuple[tuple[str, str], ...],
        before_tokens: int | None,
        delay_ns: int,
    ) -> PlannedRequest:
        spec, records = self._spec, self._records
        index = number * spec.turns + turn
        place, turns = None, spec.turns
        if records is not None:
            session = number % records.count
            begin = records.sessions[session]
            place, turns = begin + turn, records.sessions[session + 1] - begin
        group = number % spec.prefixes.groups if spec.prefixes is not None else None
        if records is not None and place is not None and records.prompts:
            prompt, tokens = records.prompts[place], records.inputs[place] or None
            # Earlier messages that the file itself has come first; what was really answered follows.
            history = history or records.histories.get(place, ())
        else:
            prompt, tokens = self._write(number, turn, index, place, group)
        return PlannedRequest(
            prompt=prompt,
            output_tokens=self._osl.at(index, place),
            input_tokens=None if tokens is None or before_tokens is None else before_tokens + tokens,
            session=number if spec.turns > 1 else None,
            turn=turn,
            last_turn=turn + 1 >= turns,
            prefix_group=group,
            history=history,
            delay_ns=delay_ns,
        )

    def _write(self, number: int, turn: int, index: int, place: int | None, group: int | None) -> tuple[str, int]:
        assert self._writer is not None  # noqa: S101 (there is one wherever there are no recorded texts)
        wanted = max(1, self._isl.at(index, place) - self._added)
        parts = [(index, wanted)]
        if turn == 0 and place is not None and self._records is not None and self._records.block_ends:
            parts = self._blocks(number, place, wanted) or parts
        elif turn == 0 and group is not None and self._spec.prefixes is not None:
            shared = self._spec.prefixes.tokens
            parts = [(_PREFIX_NUMBERS + group, shared), (index, max(1, wanted - shared))]
        text, tokens = self._writer.joined(parts)
        return text, tokens + self._added

    def _blocks(self, number: int, place: int, wanted: int) -> list[tuple[int, int]]:
        """Return the texts of a request's block hashes: the same hash is the same text."""
        assert self._records is not None  # noqa: S101 (asked for only with records)
        # Another lap through the file has other texts, so that no cache knows them from the lap before.
        moved = _PREFIX_NUMBERS + number // self._records.count * self._lap_blocks
        parts = []
        for block in self._records.blocks_of(place):
            if wanted <= 0:
                break
            parts.append((moved + block, min(BLOCK_TOKENS, wanted)))
            wanted -= BLOCK_TOKENS
        if parts and wanted > 0:
            parts.append((number, wanted))
        return parts

    def _delay_ns(self, session: int, turn: int) -> int:
        if self._think is not None:
            return self._think(session * self._spec.turns + turn)
        if self._records is None:
            return 0
        return self._records.delays_ns[self._records.sessions[session % self._records.count] + turn]

    # --- what is said about it

    def _why_estimated(self) -> str | None:
        if self._writer is not None:
            return self._writer.estimated
        return "the dataset's texts are sent as they are; the server counts them"

    def _notes(self, prepared: Prepared, *, joins: bool) -> Iterator[str]:
        spec, records, length = self._spec, prepared.records, prepared.length
        if length is not None and length.tokens_mean is None:
            yield f"prompt length is an estimate: {length.words} words for {length.wanted} tokens (no tokenizer)"
        elif length is not None and length.tokens_mean is not None and abs(length.tokens_mean - length.wanted) > 1:
            yield f"prompts have {length.tokens_mean:.1f} tokens on average, {length.wanted} were asked for"
        if joins:
            yield "the tokenizer joins words, so each prompt is counted when it is made: the client works more"
        if records is not None:
            yield from records.notes
            if spec.mode != "trace":
                yield _RETURN.format(count=records.count, what="sessions" if spec.turns > 1 else "requests")
        if spec.turns > 1:
            yield "prompt lengths of later turns assume answers of the asked length, without the chat template"


class _Length:
    """The length of request ``index``, from the dataset where it tells and the spec leaves it to it."""

    __slots__ = ("_sample", "_told")

    def __init__(self, text: str | None, mean: int, seed: int, name: str, records: Records | None) -> None:
        lengths: Lengths = parse_lengths(text, mean, name=name)
        self._sample = sampler(lengths, seed, name)
        self._told: array[int] | None = None
        if records is not None and text in (None, DATA):
            self._told = records.inputs if name == "isl" else records.outputs

    def at(self, index: int, place: int | None) -> int:
        if self._told is not None and place is not None and self._told[place] != UNTOLD:
            return self._told[place]
        return self._sample(index)
