"""`python -m jobs doctor`: finds what is lost or left over in Redis, and mends it with --fix; without it nothing is written."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import msgspec
import redis

from jobs.commands import redis_command
from jobs.commands.terminal import operator, printable, table
from jobs.mall import orphans as mall_orphans
from jobs.queue import orphan_entries, orphan_jobs, orphan_keys, orphan_letters
from jobs.queue.orphans import EXAMPLES, Finding, Walk, examine, mend

HEAD = ("KIND", "FOUND", "LEFT", "WHAT IT IS", "WHAT --fix DOES", "FOR EXAMPLE")


class Report(msgspec.Struct, frozen=True):
    """One kind of finding. `left` are those that were not mended; `examples` a few of them, or of those that were."""

    kind: str
    says: str
    mends: str
    found: int
    left: int
    examples: list[str]


def main(argv: list[str]) -> int:
    """0 when nothing is wrong, or was mended; 1 when something is left; 2, with the reason on stderr, when it cannot look."""
    parser = argparse.ArgumentParser(prog="python -m jobs doctor", description="What is lost or left over in Redis.")
    parser.add_argument("--fix", action="store_true", help="mend what can be mended, beside the running system")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options, left = parser.parse_args(argv), list[Finding]()
    return redis_command.run(lambda client: _answer(client, options, left)) or int(bool(left))


def examined(client: redis.Redis, walk: Walk, wait: Callable[[float], object] = time.sleep) -> list[Finding]:
    """Everything that is wrong, of the queue and of the mall; `wait` passes the time between the two looks."""
    places = orphan_jobs.Places(client)
    jobs = orphan_jobs.part(places)
    parts = [mall_orphans.part(places), orphan_entries.PART, orphan_letters.PART, jobs, orphan_keys.PART]
    return examine(client, parts, walk, wait)


def _answer(client: redis.Redis, options: argparse.Namespace, left: list[Finding]) -> str:
    walk = Walk()
    found = examined(client, walk)
    left += mend(client, found, by=operator()) if options.fix else found
    reports = _reports(found, left)
    if options.json:
        answer: dict[str, Any] = {"keys": walk.ours, "foreign_keys": walk.foreign, "findings": reports}
        return msgspec.json.encode(answer).decode()
    head = f"{walk.ours} keys, and {walk.foreign} of other programs: "
    if not found:
        return f"{head}nothing is wrong"
    rows = [[r.kind, str(r.found), str(r.left), r.says, r.mends or "nothing: by hand", printable(r.examples[0])] for r in reports]
    return f"{head}{len(found)} found, {len(left)} left\n{table([HEAD, *rows])}"


def _reports(found: list[Finding], left: list[Finding]) -> list[Report]:
    reports = []
    for kind in sorted({finding.kind for finding in found}, key=lambda kind: kind.name):
        of_kind = [finding.target for finding in found if finding.kind is kind]
        remain = [finding.target for finding in left if finding.kind is kind]
        reports.append(Report(kind.name, kind.says, kind.mends, len(of_kind), len(remain), (remain or of_kind)[:EXAMPLES]))
    return reports
