"""Canvases before they are launched: what is refused, and what the flat program of a tree looks like."""

import canvas_trees
import hypothesis
import pytest
import sample_tasks

from jobs.errors import InvalidField
from jobs.queue.canvas import chain, chord, chunks, group, map, starmap
from jobs.queue.canvas_parts import MAX_DEPTH, Part, signature
from jobs.queue.canvas_program import Kind, Node

NOW = 1_763_764_205.25
ADD = sample_tasks.add


def s(*args: object) -> Part:
    return signature(ADD, args)


@hypothesis.given(canvas_trees.trees())
def test_the_nodes_of_a_program_are_the_tree_breadth_first(tree: Part) -> None:
    nodes = [Node.read(text) for text in tree.program(NOW).nodes]
    assert nodes[0].parent == -1
    following = 1
    for number, node in enumerate(nodes):
        if node.kind is not Kind.JOB:
            assert node.first == following
            assert [child.parent for child in nodes[following : following + node.count]] == [number] * node.count
            following += node.count
    assert following == len(nodes)


def test_members_of_one_task_share_a_template() -> None:
    program = group(s(1, 2), s(3, 4), signature(ADD, (5, 6)).set(time_limit_s=7.0)).program(NOW)
    assert len(program.templates) == 2
    assert program.n_jobs == 3
    assert b'\\"7\\"' in program.templates[1]


def test_a_call_that_its_task_cannot_take_is_refused_when_the_chain_is_built() -> None:
    with pytest.raises(InvalidField, match=r"sample\.add"):
        chain(s(1, 2), s(1, 2))
    with pytest.raises(InvalidField, match=r"sample\.add"):
        chord([s(1, 2)], group(s(1), chain(s(1), s(2, 3))))
    with pytest.raises(InvalidField, match="missing a required argument"):
        chain(s(1), s(2)).program(NOW)
    with pytest.raises(InvalidField, match="JSON"):
        group(s(1, object())).program(NOW)
    chain(s(1, 2), signature(ADD, (1, 2), immutable=True)).program(NOW)


def test_many_parts_follow_one_another_without_nesting() -> None:
    canvas: Part = s(1, 2)
    for _ in range(3 * MAX_DEPTH):
        canvas = canvas | s(1)
    assert canvas.program(NOW).n_jobs == 1 + 3 * MAX_DEPTH


def test_a_canvas_takes_whatever_a_call_takes() -> None:
    class Text(str): ...

    node = group(signature(sample_tasks.collect, (2**70, Text("x"), {"a": ()}))).program(NOW).nodes[1]
    assert node.endswith(b' 35 1180591620717411303424,"x",{"a":[]}{}')


def test_owned_and_unique_tasks_are_refused() -> None:
    with pytest.raises(InvalidField, match="state of its own"):
        signature(sample_tasks.own)
    with pytest.raises(InvalidField, match="unique"):
        signature(sample_tasks.single).program(NOW)


def test_what_is_no_part_is_refused() -> None:
    with pytest.raises(InvalidField, match="not int"):
        chain(s(1, 2), 3)  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match="at least one"):
        chain()
    with pytest.raises(InvalidField, match="at least 1"):
        chunks(ADD, [(1, 2)], 0)
    nested: Part = s(1, 2)
    for _ in range(MAX_DEPTH + 1):
        nested = group(nested)
    with pytest.raises(InvalidField, match="nested"):
        nested.program(NOW)


def test_map_starmap_and_chunks_are_groups() -> None:
    assert [part.args for part in map(ADD, [1, 2]).parts] == [(1,), (2,)]  # type: ignore[union-attr]
    assert [part.args for part in starmap(ADD, [(1, 2)]).parts] == [(1, 2)]  # type: ignore[union-attr]
    calls = [part.kwargs["calls"] for part in chunks(ADD, [(1, 2), (3, 4), (5, 6)], 2).parts]  # type: ignore[union-attr]
    assert calls == [[(1, 2), (3, 4)], [(5, 6)]]
    with pytest.raises(InvalidField, match=r"sample\.add"):
        chunks(ADD, [(1,)], 2).program(NOW)
