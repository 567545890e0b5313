"""Random canvases, and what they must return: the tree interpreted without any queue."""

from typing import Any

import sample_tasks
from hypothesis import strategies

from jobs.queue.canvas import chain, chord, chunks, group
from jobs.queue.canvas_parts import Chain, Group, Part, Signature, signature

NOTHING = object()
VALUES: strategies.SearchStrategy[Any] = strategies.one_of(
    strategies.integers(-(2**63), 2**63),
    strategies.text(max_size=3),
    strategies.sampled_from([None, [], {}, {"a": []}, 1.5, "\x00", '"], {', "é\n"]),
)


def trees(max_leaves: int = 8) -> strategies.SearchStrategy[Part]:
    """Canvases of chains, groups, chords and chunks in one another."""
    calls: strategies.SearchStrategy[Part] = strategies.builds(
        lambda args, immutable: signature(sample_tasks.collect, args, immutable=immutable),
        strategies.lists(VALUES, max_size=2),
        strategies.booleans(),
    )
    several = strategies.lists(strategies.lists(VALUES, max_size=2), max_size=3)
    leaves = calls | strategies.builds(
        lambda items, n: chunks(sample_tasks.collect, items, n), several, strategies.integers(1, 2)
    )

    def within(parts: strategies.SearchStrategy[Part]) -> strategies.SearchStrategy[Part]:
        lists = strategies.lists(parts, max_size=3)
        return lists.map(group) | lists.filter(bool).map(lambda some: chain(*some)) | strategies.builds(chord, lists, parts)

    return strategies.recursive(leaves, within, max_leaves=max_leaves)


def expected(part: Part, given: Any = NOTHING) -> Any:
    """What a canvas of `sample.collect` calls returns."""
    if isinstance(part, Group):
        return [expected(child, given) for child in part.parts]
    if isinstance(part, Chain):
        for child in part.parts:
            given = expected(child, given)
        return given
    prefix = [] if given is NOTHING or part.immutable else [given]
    return _called(part, prefix)


def _called(call: Signature, prefix: list[Any]) -> list[Any]:
    if call.task is sample_tasks.collect:
        return [*prefix, *call.args]
    return [[*prefix, *args] for args in call.kwargs["calls"]]
