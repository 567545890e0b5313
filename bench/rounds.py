"""What the comparisons of workers have in common: who takes part, the rounds (A B C, A B C), and what failed."""

import argparse
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from fleet import Failed, Row, rows
from peers import CONTENDERS, FLOOR
from server import Server, about

T = TypeVar("T")


def parser(description: str | None) -> argparse.ArgumentParser:
    """With the options that all of them have."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--only", default="", help="names in contenders/ or name:variant, with commas")
    return made


def compare(
    scene: str,
    options: argparse.Namespace,
    run: Callable[[Server, Row], T],
    show: Callable[[list[Row], dict[Row, list[T]]], None],
) -> None:
    """Runs every contender of the scene once in each round and shows what came out, failures included."""
    chosen = rows([contender for contender in CONTENDERS if contender is not FLOOR], scene, options.only)
    server = Server(aof_always=False)
    found: dict[Row, list[T]] = defaultdict(list)
    failures: list[str] = []
    try:
        print(about(server.about()), flush=True)
        for _ in range(options.rounds):
            for row in chosen:
                try:
                    made = run(server, row)
                except Failed as failure:
                    failures.append(f"{row.title} failed: {failure}")
                else:
                    found[row].append(made)
        print(f"{options.rounds} rounds\n")
        show([row for row in chosen if row in found], found)
        print("\n".join(failures) or "Every run ended with every job run once and acknowledged.")
    finally:
        server.stop()
