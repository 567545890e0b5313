"""Every example of the documents runs: in a copy of the tree, with real workers, a scheduler and a Redis of its own."""

import shutil
from pathlib import Path

import docs_examples
import pytest
import redis
from processes import ROOT, Process, Processes, wait_for

from jobs import keys

LIMIT_S = 120.0
START_LIMIT_S = 30.0


class Tree:
    """A copy of the product with a document's files in it, and processes that run there."""

    def __init__(self, folder: Path, document: Path, processes: Processes, client: redis.Redis, **environ: str) -> None:
        for package in ("jobs", "scheduler"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        self.folder = folder
        self.document = document
        self._processes = processes
        self._client = client
        self._environ = {"PYTHONPATH": str(folder), "RQ_CONFIG": "jobs.rq_config", **environ}
        self.written = docs_examples.write_files(document, folder)

    def start(self, *command: str) -> Process:
        """Starts a command in the tree."""
        return self._processes.start("sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *command, **self._environ)

    def serve(self, *queues: str) -> list[Process]:
        """Starts two workers and a scheduler, and waits until they are ready."""
        workers = [self.start("rq", "worker", *queues) for _ in range(2)]
        self.start("python", "-m", "scheduler")
        wait_for(lambda: self._client.scard(keys.WORKERS) == len(workers), START_LIMIT_S, "the workers are there")
        wait_for(lambda: self._client.exists(keys.TASKS, keys.PERIODIC) == 2, START_LIMIT_S, "tasks and schedules are published")
        return workers

    def run_examples(self) -> str:
        """Runs the document's examples to the end; returns what they printed."""
        example = self.start("python", str(ROOT / "tests" / "docs_examples.py"), str(self.document))
        assert example.ended(LIMIT_S) == 0, example.output
        assert "examples ran" in example.output
        return example.output


def test_every_example_of_the_queue_runs(redis_client: redis.Redis, processes: Processes, tmp_path: Path) -> None:
    settings = {"TURNSTILE_SAMPLES": "1", "TURNSTILE_ROUTES": "shop.yearly_*=slow"}
    tree = Tree(tmp_path / "tree", ROOT / "docs" / "queue.md", processes, redis_client, **settings)
    workers = tree.serve("default", "slow")
    tree.run_examples()
    wait_for(lambda: sum(worker.output.count("hello\n") for worker in workers) == 5, START_LIMIT_S, "a worker prints five lines")


def test_the_application_that_came_from_celery_runs(redis_client: redis.Redis, processes: Processes, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    tree = Tree(tmp_path / "tree", ROOT / "docs" / "from-celery.md", processes, redis_client, SHOP_EXPORTS=str(exports))
    tree.serve("reports", "default")
    tree.run_examples()


def test_an_example_that_does_not_hold_fails_and_names_its_line(
    redis_client: redis.Redis, processes: Processes, tmp_path: Path
) -> None:
    document = tmp_path / "wrong.md"
    document.write_text("# Wrong\n\n```python\none = 1\nassert one == 2\n```\n")
    tree = Tree(tmp_path / "tree", document, processes, redis_client)
    example = tree.start("python", str(ROOT / "tests" / "docs_examples.py"), str(document))
    assert example.ended(START_LIMIT_S) == 1
    assert 'wrong.md", line 5, in <module>\n    assert one == 2\n' in example.output


@pytest.mark.parametrize("name", ["queue.md", "from-celery.md"])
def test_the_celery_code_that_is_shown_compiles(name: str) -> None:
    shown = [block for block in docs_examples.blocks(ROOT / "docs" / name) if block.language == "python"]
    kinds = {block.use.partition("=")[0] for block in shown}
    assert kinds <= {"", "file", "celery"}, "a block that nobody runs"
    for block in shown:
        block.compiled()
