"""The duty that asks the business what it has repaired."""

from scheduler.reconcile import AGAIN_S, LOOK_S, Reconciliation


def test_a_pass_that_repaired_something_is_followed_by_another_one_soon() -> None:
    passes = iter([["a", "b"], ["c"], []])
    duty = Reconciliation(lambda _now: next(passes))
    assert [(duty.tick(0.0), duty.interval_s) for _ in range(3)] == [
        ({"reconciled": 2}, AGAIN_S),
        ({"reconciled": 1}, AGAIN_S),
        ({"reconciled": 0}, LOOK_S),
    ]
