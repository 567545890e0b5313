"""What goes between a worker's parent and its children, with two real processes at the two ends."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import JobStopped, SoftTimeLimitExceeded
from jobs.queue import channel
from jobs.queue.board import SIZE, Board
from jobs.queue.channel import Chunk, Ended, Incoming, Tokens, Torn
from jobs.queue.ending import Claim
from jobs.queue.outcome import Outcome

CLAIM = Claim("j1", "e1", "default", "w1", {b"task": b"a.b", b"data": b"\xff\x00"}, 12.5)


def ended(number: int, result: bytes = b"1") -> bytes:
    return channel.frame(Ended(number, 0.5, Outcome("finished", "a.b", 13.0, result)))


def numbers(messages: list[bytes | bytearray]) -> list[int]:
    return [channel.decode_ended(message).number for message in messages]


def in_fork(work: Callable[[], None]) -> int:
    """A process that does the work and ends."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


# --- messages ---------------------------------------------------------------------------------


def test_a_chunk_arrives_as_it_was_sent() -> None:
    sent = Chunk(300, 7, [channel.data_of(CLAIM)], [0.25])
    (message,) = Incoming().messages(channel.frame(sent))
    got = channel.decode_chunk(message)
    assert (got.generation, got.first, got.failing, got.token) == (300, 7, [0.25], 300 - 256)
    assert Claim(*got.claims[0]) == CLAIM


@given(st.lists(st.binary(max_size=300), max_size=8), st.data())
def test_messages_are_found_wherever_the_stream_is_cut(results: list[bytes], data: st.DataObject) -> None:
    stream, incoming, found = b"".join(ended(number, result) for number, result in enumerate(results)), Incoming(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += incoming.messages(stream[:cut])
        stream = stream[cut:]
    assert [channel.decode_ended(message).outcome.result for message in found] == results


@given(st.integers(8, 60), st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    stream = bytearray(ended(1, b"x" * 60))
    stream[place] ^= change
    with pytest.raises(Torn):
        Incoming().messages(bytes(stream))


# --- tokens -----------------------------------------------------------------------------------


def test_tokens_come_in_order_and_those_taken_back_do_not() -> None:
    tokens = Tokens()
    tokens.give(7, 2)
    tokens.give(8, 3)
    assert tokens.left() == 5
    assert (tokens.taken(), tokens.taken(), tokens.taken()) == (7, 7, 8)
    assert Counter(tokens.take_back()) == {8: 2}
    assert tokens.taken() is None
    assert tokens.left() == 0
    tokens.close()


def test_of_a_parent_and_a_child_that_race_for_a_token_exactly_one_gets_it() -> None:
    tokens, rounds, each, stop = Tokens(), 600, 90, 255
    out, into = os.pipe()

    def take() -> None:
        taken: Counter[int] = Counter()
        while (token := tokens.taken()) != stop:
            if token is not None:
                taken[token] += 1
        os.write(into, b" ".join(b"%d:%d" % pair for pair in taken.items()))

    child, uniform = in_fork(take), random.Random(1)
    given, back = Counter[int](), Counter[int]()
    for number in range(rounds):
        tokens.give(number % stop, each)
        given[number % stop] += each
        time.sleep(uniform.random() * 0.000_1)
        back += Counter(tokens.take_back())
    tokens.give(stop, 1)
    os.waitpid(child, 0)
    os.close(into)
    taken = Counter({int(token): int(n) for token, n in (pair.split(b":") for pair in os.read(out, 65_536).split())})
    os.close(out)
    tokens.close()
    assert taken + back == given
    assert taken and back, "both got some"


# --- memory that both see ---------------------------------------------------------------------


def test_what_a_child_said_outlives_it() -> None:
    board = Board()

    def work() -> None:
        board.begin(4, 100.0, 5.0, 2.5)
        board.generation, board.resident = 9, 1_000
        board.keep(ended(3))
        board.keep(ended(4))

    os.waitpid(in_fork(work), 0)
    assert board.running() == (4, 100.0, 5.0, 2.5)
    assert (board.generation, board.resident) == (9, 1_000)
    assert numbers(list(board.unsent())) == [3, 4]
    board.sent()
    board.end()
    assert board.running()[0] == 0 and not list(board.unsent())
    board.close()


def test_what_does_not_fit_is_not_kept_and_a_torn_end_hides_nothing_before_it() -> None:
    board = Board()
    assert not board.keep(ended(1, b"x" * SIZE))
    n = 0
    while board.keep(ended(n, b"x" * 1_000)):
        n += 1
    assert n == len(list(board.unsent())) > 50
    board._memory[SIZE - 2_000] ^= 1
    assert numbers(list(board.unsent())) == list(range(n - 2))
    board.close()


def test_a_reader_beside_a_writer_sees_whole_messages_only() -> None:
    board = Board()
    until = time.monotonic() + 0.5

    def work() -> None:
        number = 0
        while time.monotonic() < until:
            for _ in range(5):
                number += 1
                board.begin(number, float(number), float(number), float(number))
                board.keep(ended(number, str(number).encode() * 20))
                board.end()
            board.sent()

    child, looks = in_fork(work), 0
    while time.monotonic() < until:
        number, started, limit_s, soft_limit_s = board.running()
        assert number == 0 or number == started == limit_s == soft_limit_s
        for message in board.unsent():
            found = channel.decode_ended(message)
            assert found.outcome.result == str(found.number).encode() * 20
            looks += 1
    assert os.waitpid(child, 0)[1] == 0
    assert looks > 10
    board.close()


def test_an_interruption_is_meant_for_one_job() -> None:
    board = Board()
    assert board.calls == 0
    board.interrupt(5, SoftTimeLimitExceeded(1.5))
    assert board.calls == 1
    assert board.interruption(4) is None
    assert board.interruption(5) == SoftTimeLimitExceeded(1.5)
    board.interrupt(6, JobStopped())
    assert isinstance(board.interruption(6), JobStopped)
    board.close()
