"""The search guided by the edges of the guest's code and by the operands that it compares.

Each test case runs in the copy of the guest that counts edges. Most repeat known edges, and use no more than calls did
before; they are only counted. All others also run in the original guest, and only there are behaviours noted and do
oracles judge. So findings, the fuel of behaviours, ``deterministic`` and ``scales`` never see instrumented code. The
results of both runs are the same. A test case that reached new edges is kept, and runs once more in the copy that
records operands; these suggest the next test cases.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import blake2s
from itertools import chain, islice
from time import perf_counter
from typing import TYPE_CHECKING, Any

from aegis.errors import GuestTrap
from aegis.fuzz.case import Case, HandleRef, Step, StepResult, Trace, hurt
from aegis.fuzz.causes import signature_of
from aegis.fuzz.coverage.covers import EDGES, EQUAL, FIRST
from aegis.fuzz.coverage.dependence import changed_case, dependences, leaves_of
from aegis.fuzz.coverage.edge_map import EdgeMap, bits_of
from aegis.fuzz.coverage.inverted_cases import inverted_cases
from aegis.fuzz.coverage.operands import matched_cases, pairs_of
from aegis.fuzz.coverage.relations import Relations
from aegis.fuzz.coverage.solve import climb, equal_cases, solved_cases
from aegis.fuzz.oracles import Differential, HostUntouched, NoLimit, NoTrap, RoundTrip, Steady
from aegis.fuzz.program_words import GivenWords
from aegis.fuzz.search import Behaviour, ChunkResult, Search
from aegis.fuzz.shrink_parts import parts_of, with_parts
from aegis.fuzz.values.scalars import Integer
from aegis.fuzz.values.sequences import BULK_ITEMS

if TYPE_CHECKING:
    from aegis.fuzz.coverage.copies import Copies
    from aegis.fuzz.coverage.dependence import Compared, Leaf
    from aegis.fuzz.oracles import Oracle
    from aegis.wasm.comparisons import Operands

__all__ = ["GuidedSearch"]

_VALUE_ORACLES = (NoTrap, NoLimit, RoundTrip, Differential, Steady, HostUntouched)
"""Oracles for which results and endings, which instrumentation does not change, decide whether to look closer."""
_MAX_SUGGESTED_CASES = 512
"""Most test cases that wait for their run; later ones replace the oldest."""
_MAX_NEW_CASES = 96
"""Most test cases that the comparisons of one test case suggest."""
_AGAIN_SHARE, _OFTEN_SHARE, _MAX_AGAIN_CASES = 0.04, 0.3, 32
"""How often a test case of the corpus suggests others again, as a share of the test cases, also while less than half of
the calls for dependences are used; and most of these others."""
_MAX_SUGGESTING_FUEL, _MAX_SUGGESTING_CALLS = 5_000_000, 200
"""Fuel and host calls of a call beyond which no other test cases are made from it."""
_MAX_SAMPLED_CASES = 2048
_DEPENDENCE_SHARE, _MIN_DEPENDENCE_CALLS = 0.5, 300
"""Calls that find the bytes on which comparisons depend, as a share of the calls of the chunk, and how many there may
be at its start."""
_MAX_DEPENDENCE_CASES, _MIN_DEPENDENCE_CASES = 160, 8
_SOLVED_SHARE, _REST_SHARE = 0.5, 0.3
"""How often test cases that are suggested again are those of dependences, or those that were left over."""
_MAX_REST_ENTRIES = 64
_CUT_LENGTHS = (32, 256, 4096)
"""Lengths to which long arguments of a new test case are cut, if that makes no difference."""
_MIN_TRIMMED_ITEMS, _MAX_TRIMMED_PARTS = 24, 16
"""Shortest sequence that is trimmed, and the number of its parts, of which each is left out once. In a shorter one,
bytes that do not matter yet are room for what comes next."""
_TRIM_SHARE, _MIN_TRIM_CALLS = 0.15, 200
"""Calls for this, as a share of the calls of the chunk, and how many there may be at its start."""
_MAX_CLIMBED_BYTES, _CLIMB_RUNS = 16, 12
"""Most equal bytes that are found in a row, and runs for each."""
_MENDED_SHARE, _MENDING_SHARE, _MAX_MENDED_CASES = 0.3, 0.5, 4
"""How often generated test cases are changed so that they fulfil known relations, the share of the calls for this, and
how many relations in turn."""
_ROOM_BYTES = 64
"""Bytes that are added to an input, and the size from which an input has room enough."""
_MAX_SIZE_ENTRIES = 2
"""Most comparisons that only an input with more bytes makes."""
_MAX_STUDIED_STEPS = 4
"""Most calls of a test case whose relations are learned before it is minimised."""
_MAX_INVERTED_ATTEMPTS = 3
"""How often a chunk computes the operands of one comparison backwards."""
_MAX_JOINED_STEPS = 16
_MAX_BALANCE_STEPS = 200
"""Most calls of suggested test cases in a row."""
_MAX_LEARNED_VALUES = 16
"""Most operands of one test case for the dictionary: those of loops would displace what the guest returned."""


class GuidedSearch(Search):
    """A search that is also guided by ``copies`` of the target; ``edges`` are those reached by earlier chunks.

    ``cost`` has three times in seconds: of instrumented runs whose test cases also ran in the original, of these runs
    in the original, and of all runs that a search without coverage does not make.
    """

    def __init__(self, copies: Copies, edges: bytes, *positional: Any, **options: Any) -> None:
        super().__init__(*positional, **options)
        self.copies = copies
        self._map = EdgeMap(copies.size, edges)
        self._usual: set[tuple[Any, ...]] = set()
        """What instrumented calls used that returned, and how others trapped."""
        self._new_usual: list[str] = []
        self._suggested: deque[Case] = deque(maxlen=_MAX_SUGGESTED_CASES)
        self._kept: list[Case] = list(filter(self._is_small, options.get("corpus", ())))
        self._joins = False
        """Whether the calls of the latest test case are suggestions that do not depend on each other."""
        self._balance = 0
        """Calls of other test cases less calls of suggested ones."""
        self.cost = (0.0, 0.0, 0.0)
        self._calls = self._dependence_calls = self._mended_calls = self._trim_calls = 0
        self._rest: deque[Iterator[Case]] = deque(maxlen=_MAX_REST_ENTRIES)
        """Suggestions that were left over, of the latest kept cases."""
        self._relations = Relations()
        self._reached: list[tuple[str, Case]] = []
        self._inversions: dict[Any, int] = {}
        """How often operands of a comparison were computed backwards, by function and site."""
        self._tried: dict[Any, int] = {}
        """How often comparisons were solved, by site and value."""

    def finish(self, batch: ChunkResult) -> None:
        self._note_reached(batch)
        batch.edges, batch.cost, batch.usual = self._map.bits(), self.cost, self._new_usual

    def next_case(self, rng: random.Random) -> Case:
        """Return a suggested test case if there is one, for up to half of the calls."""
        if self._suggested and self._balance >= 0:
            case = self._joined()
            self._balance -= len(case.steps)
            return case
        self._joins = False
        often = 2 * self._dependence_calls < self._most_dependence_calls()
        if self._kept and rng.random() < (_OFTEN_SHARE if often else _AGAIN_SHARE):
            # Later and smaller ones are preferred. A chunk ends before all suggestions have run: the next makes some
            # again.
            drawn = [self._kept[-1 - int(len(self._kept) * rng.random() ** 2)] for _ in range(2)]
            chosen = min(drawn, key=self._size)
            if self._rest and rng.random() < _REST_SHARE:
                again: Iterator[Case] = islice(
                    self._rest[-1 - int(len(self._rest) * rng.random() ** 2)], _MAX_AGAIN_CASES
                )
            else:
                again = self._solved(chosen) if rng.random() < _SOLVED_SHARE else self._matched(chosen)
            self._suggested.extend(_sampled(rng, filter(self._is_small, again), _MAX_AGAIN_CASES))
        case = super().next_case(rng)
        if rng.random() < _MENDED_SHARE and all(map(self._is_small_step, case.steps)):
            case = self._mended_freely(case)
        self._balance = min(self._balance + len(case.steps), _MAX_BALANCE_STEPS)
        return case

    def _is_small(self, case: Case) -> bool:
        """Return whether the last call has no large argument: such a call costs as much as many others."""
        return self._is_small_step(case.steps[-1])

    def _size(self, case: Case) -> int:
        step = case.steps[-1]
        export = self.target.exports.get(step.function)
        return 0 if export is None else export.size(step.arguments)

    def _is_small_step(self, step: Step) -> bool:
        export = self.target.exports.get(step.function)
        return export is not None and export.size(step.arguments) < BULK_ITEMS

    def _is_alone(self, case: Case) -> bool:
        """Return whether a test case is one call that uses no handle, and does not run a whole program."""
        step = case.steps[0]
        export = self.target.exports.get(step.function)
        single = len(case.steps) == 1 and export is not None and not export.program
        return single and not any(isinstance(argument, HandleRef) for argument in step.arguments)

    def _joined(self) -> Case:
        """Take a suggested test case. Join those of one call without handles: a sandbox for each would be slow."""
        first = self._suggested.popleft()
        steps = list(first.steps)
        self._joins = self._is_alone(first)
        while self._joins and self._suggested and len(steps) < _MAX_JOINED_STEPS and self._is_alone(self._suggested[0]):
            steps += self._suggested.popleft().steps
        return first if len(steps) == len(first.steps) else Case(tuple(steps), first.answers)

    def explore(self, case: Case, batch: ChunkResult) -> None:
        copy = self.copies.counting
        self._calls += len(case.steps)
        began = perf_counter()
        hurried = self.hurries(case)
        trace = copy.run(case, copy.hurried if hurried else None)
        instrumented = perf_counter() - began
        if self._joins and len(trace.results) < len(case.steps):  # a call ended the guest: make the others later
            left = case.steps[max(1, len(trace.results)) :]
            self._suggested.extendleft(Case((step,), case.answers) for step in reversed(left))
        written = list(copy.written)
        if copy.begun:
            self._map.fresh(copy.begun)  # the same in each test case
        if hurried and hurt(trace):
            self.count(trace, batch)
            return
        fresh = [
            (n, bits, self._map.first) for n, counters in enumerate(written) if (bits := self._map.fresh(counters))
        ]
        if not fresh and self._is_usual(trace):
            self.count(trace, batch)
            due = list(self.due(trace))
            if all(isinstance(oracle, _VALUE_ORACLES) for oracle in due):
                self._ask_about_values(due, trace, batch)
                return
            original = self._again(case, instrumented)
            for oracle in due:
                self.ask(oracle, original, batch)
            return
        original = self._again(case, instrumented)
        self.judge(original, batch)
        for number, bits, first in fresh:
            if number < min(len(original.results), len(case.steps)):
                self._keep(original, number, bits, batch, first=first)

    def _again(self, case: Case, instrumented: float) -> Trace:
        """Run a test case in the original guest, and note what it cost."""
        began = perf_counter()
        trace = self.target.run(case)
        seconds = perf_counter() - began
        self.cost = self.cost[0] + instrumented, self.cost[1] + seconds, self.cost[2] + seconds
        return trace

    def _is_usual(self, trace: Trace) -> bool:
        """Return whether all calls used what calls used before, or trapped like an earlier one; remember both.

        A call that met a limit is not usual: without instrumentation it may return.
        """
        usual = bool(trace.results)
        for step, result in zip(trace.case.steps, trace.results, strict=False):
            if result.error is None:
                key = _magnitudes(step, result)
            elif isinstance(result.error, GuestTrap):
                key = step.function, signature_of(result)
            else:
                return False
            if key not in self._usual:
                self._usual.add(key)
                text = f"usual {' '.join(map(str, key))}"
                if text not in self._known:  # nor has an earlier chunk of the campaign seen it
                    self._known.add(text)
                    self._new_usual.append(text)
                    usual = False
        return usual

    def _ask_about_values(self, due: Sequence[Oracle], trace: Trace, batch: ChunkResult) -> None:
        """Ask oracles about an instrumented trace, and again about the original one before a finding counts."""
        original: Trace | None = None
        for oracle in due:
            found = oracle.judge(self.target, trace)
            if found is not None and found.signature not in self._known:
                original = original or self._again(trace.case, 0.0)
                self.ask(oracle, original, batch)

    # -- new edges -----------------------------------------------------------------------------

    def _keep(self, trace: Trace, number: int, bits: int, batch: ChunkResult, *, first: bool) -> None:
        """Keep a test case that reached new edges, with the steps that matter."""
        step, result = trace.case.steps[number], trace.results[number]
        export = self.target.exports.get(step.function)
        if export is None or result.status == "usage":
            return
        began = perf_counter()
        digest = blake2s(bits.to_bytes(self._map.size, "little"), digest_size=8).hexdigest()
        signature = f"{step.function}{FIRST if first else EDGES}{digest}"
        case = self.whole(trace, number, trace.case.closure(number), lambda one: self._reaches(one, bits), batch)
        if export.size(step.arguments) > _CUT_LENGTHS[0]:
            case = self._cut(case, bits)
        case = self._trimmed(case, bits)
        size = export.size(case.steps[-1].arguments)
        batch.behaviours.append(Behaviour(signature, case, size, result.fuel or 0, result.memory, result.host_calls))
        batch.fresh[signature] = bits
        self._known.add(signature)
        self.maker.keep(case)
        self.maker.note_result(export, result, case)
        if self._is_small(case) and not _is_costly(result):
            self._kept.append(case)
            self._suggest(case)
        self.cost = self.cost[0], self.cost[1], self.cost[2] + perf_counter() - began

    def _cut(self, case: Case, bits: int) -> Case:
        """Return the test case with long arguments of its last call cut, if it then reaches the same edges."""
        last = len(case.steps) - 1
        lists: dict[tuple[int | str, ...], int] = {}  # of those that were cut, the items that are left
        for part in parts_of(Case(case.steps[last:])):
            gone = any(
                part.path[: len(path)] == path and part.path[len(path)] >= left  # type: ignore[operator]
                for path, left in lists.items()
            )
            if isinstance(part.value, (str, bytes, list)) and not gone:
                for length in _CUT_LENGTHS:
                    if length >= len(part.value):
                        break
                    shorter = with_parts(case, {(last, *part.path[1:]): part.value[:length]})
                    if self._reaches(shorter, bits):
                        case = shorter
                        lists |= {part.path: length} if isinstance(part.value, list) else {}
                        break
        return case

    def _trimmed(self, case: Case, bits: int) -> Case:
        """Return the test case without parts of its last call that the edges do not need.

        Otherwise inputs grow with every mutation, and what is solved in them is of no use.
        """
        last = len(case.steps) - 1
        for place, value in enumerate(case.steps[last].arguments):
            if isinstance(value, (str, bytes, list)) and _MIN_TRIMMED_ITEMS <= len(value) < BULK_ITEMS:
                case = self._trimmed_at(case, (last, place), value, bits)
        return case

    def _trimmed_at(self, case: Case, path: tuple[int, int], value: Any, bits: int) -> Case:
        span = len(value) // 2
        while span >= max(1, len(value) // _MAX_TRIMMED_PARTS):
            at = 0
            while at < len(value) >= _MIN_TRIMMED_ITEMS:
                if self._trim_calls > max(_MIN_TRIM_CALLS, self._calls * _TRIM_SHARE):
                    return case
                shorter = value[:at] + value[at + span :]
                one, spent = with_parts(case, {path: shorter}), self.sequence_calls
                reaches = self._reaches(one, bits)
                self._trim_calls += self.sequence_calls - spent
                self.sequence_calls = spent
                if reaches:
                    case, value = one, shorter
                else:
                    at += span
            span //= 2
        return case

    def _reaches(self, case: Case, bits: int) -> bool:
        """Run a test case, and return whether its last step reaches edges."""
        copy = self.copies.counting
        copy.run(case)
        self.sequence_calls += len(copy.written)
        return len(copy.written) == len(case.steps) and bits_of(copy.written[-1]) & bits == bits

    def _suggest(self, case: Case) -> None:
        """Suggest test cases in which operands of a test case would be equal, before those of earlier test cases."""
        ways = chain(self._solved(case), self._matched(case))
        suggested = list(islice(ways, _MAX_NEW_CASES))
        self._rest.append(ways)
        self._suggested.extendleft(reversed(suggested))  # they lead on from what was just reached

    def _solved(self, case: Case) -> Iterator[Case]:
        """Yield test cases in which comparisons end otherwise, after runs that find on which bytes they depend."""
        left = self._most_dependence_calls() - self._dependence_calls
        runs = min(left // len(case.steps), _MAX_DEPENDENCE_CASES)
        if self.copies.comparing is None or runs < _MIN_DEPENDENCE_CASES or not self._is_small(case):
            return
        case, leaves = self._with_room(case)
        if not leaves:
            return
        compared, met = dependences(case, leaves, self._mended_operands, runs)
        if self._relations.learn(case.steps[-1].function, leaves, (*compared, *met)):
            # Now other changes keep to the relation, and get further.
            mended = self._mended(case)
            if mended is not case:
                yield mended
            compared, _ = dependences(case, leaves, self._mended_operands, runs)
        dictionary = self.target.dictionary
        words = (lambda beginning: ()) if dictionary is None else dictionary.beginning_with
        self._equal(leaves, compared, case)
        yield from self._climbed(leaves, compared, case)
        for one in solved_cases(case, leaves, compared, words, self._tried):
            admitted = self._admitted(one, case)
            if admitted is not None:
                yield self._mended_freely(admitted)

    def _with_room(self, case: Case) -> tuple[Case, list[Leaf]]:
        """Return the test case with more bytes at the end of its bytes, if the guest compares the same without them.

        A length in the input cannot grow where nothing follows: it and the size would have to change together.
        """
        leaves = leaves_of(case)
        longer = {
            number: leaf.made(leaf.data + bytes(_ROOM_BYTES))
            for number, leaf in enumerate(leaves)
            if not leaf.number and isinstance(leaf.value, bytes) and 0 < len(leaf.data) < _ROOM_BYTES
        }
        if not longer:
            return case, leaves
        roomy = changed_case(case, leaves, longer)
        sites, more = ([one.site for one in self._mended_operands(one) or ()] for one in (case, roomy))
        found = iter(more)  # sizes that were equal are not recorded, and differ now
        same = len(more) <= len(sites) + _MAX_SIZE_ENTRIES and all(site in found for site in sites)
        return (roomy, leaves_of(roomy)) if same else (case, leaves)

    def _equal(self, leaves: Sequence[Leaf], compared: Sequence[Compared], case: Case) -> None:
        """Keep test cases that make operands of a comparison equal for the first time.

        That need not be a new edge: a condition may combine several comparisons without a branch.
        """
        function = case.steps[-1].function
        for one, suggested in chain(equal_cases(case, leaves, compared), self._inverted(leaves, compared, case)):
            signature = f"{function}{EQUAL}{one.site}"
            if signature in self._known or self._dependence_calls > self._most_dependence_calls():
                continue
            equal = self._admitted(suggested, case)
            if equal is None:
                continue
            records = self._mended_operands(equal)
            if records is None or any(
                r.site == one.site and {r.left, r.right} & {one.left, one.right} for r in records
            ):
                continue
            self._known.add(signature)
            self._kept.append(equal)
            self._suggested.append(equal)  # its edges may be new, too
            self.maker.keep(equal)
            self._reached.append((signature, equal))

    def _inverted(
        self, leaves: Sequence[Leaf], compared: Sequence[Compared], case: Case
    ) -> Iterator[tuple[Operands, Case]]:  # fmt: skip
        """Yield comparisons with a constant, each with test cases for which its operand was computed backwards."""
        function = case.steps[-1].function

        def unsolved(one: Operands) -> bool:
            tries = self._inversions[function, one.site] = self._inversions.get((function, one.site), 0) + 1
            return tries <= _MAX_INVERTED_ATTEMPTS and f"{function}{EQUAL}{one.site}" not in self._known

        def run(one: Case) -> list[Operands]:
            self._dependence_calls += len(one.steps)
            return self.copies.operations(one)

        yield from inverted_cases(
            case, leaves, compared, unsolved, run, lambda one: self._admitted(one, case), self.target.exports
        )

    def _note_reached(self, batch: ChunkResult) -> None:
        """Note the test cases that :meth:`_equal` kept as behaviours, if the original guest returns from them."""
        for signature, case in self._reached:
            results = self.target.run(case).results
            if len(results) == len(case.steps) and not results[-1].ended:
                used = results[-1]
                size = self._size(case)
                batch.behaviours.append(
                    Behaviour(signature, case, size, used.fuel or 0, used.memory, used.host_calls)
                )  # fmt: skip
        self._reached.clear()

    def _climbed(self, leaves: Sequence[Leaf], compared: Sequence[Compared], case: Case) -> Iterator[Case]:
        """Yield a test case that gets further in the loop of the last comparison, such as that of two strings.

        One more equal byte is no new edge, so the search would not keep it.
        """
        found: Case | None = None
        base = case
        for _ in range(_MAX_CLIMBED_BYTES):
            step = climb(case, leaves, compared[-1]) if compared else None
            if step is None:
                break
            site, place = compared[-1].operands.site, compared[-1].place
            case, at = step
            leaves = leaves_of(case)
            compared, _ = dependences(case, leaves, self._mended_operands, _CLIMB_RUNS, at)
            if not compared or compared[-1].operands.site != site or compared[-1].place < place:
                found = found or case
                break
            found = case
        if found is not None and (admitted := self._admitted(found, base)) is not None:
            yield admitted

    def study(self, case: Case) -> None:
        """Learn the relations of a test case, whose finding is minimised: another chunk may have found them."""
        if self.copies.comparing is None or not self._is_small(case) or len(case.steps) > _MAX_STUDIED_STEPS:
            return
        spent, leaves = self._dependence_calls, leaves_of(case)
        compared, met = dependences(case, leaves, self._operands, _MAX_DEPENDENCE_CASES)
        self._relations.learn(case.steps[-1].function, leaves, (*compared, *met))
        self._dependence_calls = spent

    def mend(self, case: Case) -> Iterator[Case]:
        """Yield a test case with fields such as checksums computed again, each time one more of them."""
        if self.copies.comparing is not None and self._relations.known(case.steps):
            spent = self._dependence_calls
            for one, _ in self._mending(case):
                yield one
            self._dependence_calls = spent

    def _mended_freely(self, case: Case) -> Case:
        """Return a test case with its fields computed again, by calls that have a share of their own."""
        if self._mended_calls > max(_MIN_DEPENDENCE_CALLS, self._calls * _MENDING_SHARE):
            return case
        spent = self._dependence_calls
        case = self._mended(case)
        self._mended_calls += self._dependence_calls - spent
        self._dependence_calls = spent
        return case

    def _mended(self, case: Case) -> Case:
        """Return a test case whose calls fulfil the known relations, such as a checksum, if they failed for one."""
        known = self.copies.comparing is not None and self._relations.known(case.steps)
        return self._mended_records(case)[0] if known else case

    def _mended_records(self, case: Case) -> tuple[Case, list[list[Operands]]]:
        """Return a test case whose calls fulfil the known relations, with the comparisons of its calls."""
        records = self._records(case)
        for better in self._mending(case, records):
            case, records = better
        return case, records

    def _mending(
        self, case: Case, records: list[list[Operands]] | None = None
    ) -> Iterator[tuple[Case, list[list[Operands]]]]:  # fmt: skip
        """Yield a test case, with the comparisons of its calls, each time that another field was computed again."""
        relations = self._relations
        records = self._records(case) if records is None else records
        for _ in range(_MAX_MENDED_CASES):
            better = relations.mended(case, records)
            if not better:
                break
            tried = [(one, self._records(one)) for one in better]
            best, made = min(tried, key=lambda one: (relations.unfulfilled(*one), -sum(map(len, one[1]))))
            stuck = relations.unfulfilled(best, made) and sum(map(len, made)) <= sum(map(len, records))
            if stuck and relations.locate(case, records, self._operands):
                continue
            case, records = best, made
            yield case, records

    def _records(self, case: Case) -> list[list[Operands]]:
        """Run a test case, and return the comparisons of each of its calls."""
        assert self.copies.recorded is not None
        found = self.copies.recorded.of(case)
        self._dependence_calls += len(found)
        return found

    def _mended_operands(self, case: Case) -> list[Operands] | None:
        if not self._relations.known(case.steps) or self._dependence_calls > self._most_dependence_calls():
            return self._operands(case)
        records = self._mended_records(case)[1]
        return records[-1] if len(records) == len(case.steps) and records[-1] else None

    def _most_dependence_calls(self) -> int:
        more = _MIN_DEPENDENCE_CALLS if self._relations else 0  # each run takes several calls then
        return max(_MIN_DEPENDENCE_CALLS, int(self._calls * _DEPENDENCE_SHARE)) + more

    def _operands(self, case: Case) -> list[Operands] | None:
        """Run a test case with records of comparisons; return those of its last call, ``None`` without such a call."""
        found = self._records(case)
        return found[-1] if len(found) == len(case.steps) else None

    def _matched(self, case: Case) -> Iterator[Case]:
        """Run a test case with records of comparisons; yield test cases in which operands would be equal."""
        if self.copies.comparing is None:
            return
        records = self._operands(case)
        if records is None:
            return
        pairs = pairs_of(records)
        if self.target.dictionary is not None:
            for pair in pairs[:_MAX_LEARNED_VALUES]:
                if not pair.floating:
                    self.target.dictionary.learn_integer(pair.constant)
        for one in matched_cases(case, pairs, self.target.exports):
            admitted = self._admitted(one, case)
            if admitted is not None:
                yield admitted

    def _admitted(self, case: Case, base: Case) -> Case | None:
        """Return a suggested test case with its integers in range; ``None`` if it changes given words of a program."""
        step = case.steps[-1]
        arguments = list(step.arguments)
        for place, shape in enumerate(self.target.exports[step.function].shapes):
            if isinstance(shape, Integer):
                arguments[place] = shape.low + (arguments[place] - shape.low) % (shape.high - shape.low + 1)
            elif isinstance(shape, GivenWords) and arguments[place] != base.steps[-1].arguments[place]:
                return None
        return case.with_step(len(case.steps) - 1, Step(step.function, tuple(arguments)))


def _is_costly(result: StepResult) -> bool:
    """Return whether a call took as long as many others: suggestions from it would take the time of the campaign."""
    return (result.fuel or 0) > _MAX_SUGGESTING_FUEL or result.host_calls > _MAX_SUGGESTING_CALLS


def _magnitudes(step: Step, result: StepResult) -> tuple[Any, ...]:
    """Return what a call used, by powers of two: edges tell smaller differences, and twice the fuel is worth a run."""
    return (
        step.function, result.declared, (result.fuel or 0).bit_length(), result.host_calls.bit_length(),
        result.memory.bit_length(),
    )  # fmt: skip


def _sampled(rng: random.Random, cases: Iterator[Case], count: int) -> list[Case]:
    """Return ``count`` of the test cases at random, or all if there are fewer."""
    found = list(islice(cases, _MAX_SAMPLED_CASES))
    return found if len(found) <= count else rng.sample(found, count)
