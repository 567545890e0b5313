"""The function that all contenders enqueue."""


def add(x: float, y: float) -> float:
    """The sum."""
    return x + y
