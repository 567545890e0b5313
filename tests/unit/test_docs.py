"""The documents name only what there is: calls of the API, environment variables, files; and the README leaves none out."""

import re
from pathlib import Path

import pytest

from jobs.settings import PARSERS
from web.app import OPERATIONS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(r"\b(GET|POST|PUT|DELETE) (/v1/[^\s`?,)]*)")
VARIABLE = re.compile(r"\bTURNSTILE_[A-Z_]*[A-Z]\b(?!_)")
FILE = re.compile(r"`(?!jobs/shop/)((?:bench|docs|jobs|scheduler|tests|web)/[\w/]+\.\w+)`")
"""A path in the tree; `jobs/shop` is the example of an application that is brought along."""
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")
OF_THE_TESTS = {"TURNSTILE_TEST_REDIS"}


def shape(path: str) -> str:
    """A path whatever its parts in braces are called."""
    return re.sub(r"{[^}]*}", "{}", path)


def answered(method: str, path: str) -> bool:
    """Whether the API has the call; a document may fill in a part in braces, as in `/v1/queues/{name}/pause`."""
    return any(
        operation.method == method and re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(operation.path)), shape(path))
        for operation in OPERATIONS
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_document_names_only_calls_variables_and_files_that_there_are(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert [call for call in CALL.findall(text) if not answered(*call)] == []
    assert set(VARIABLE.findall(text)) - set(PARSERS) - OF_THE_TESTS == set()
    assert [name for name in FILE.findall(text) if not (ROOT / name).exists()] == []
    assert [target for target, _ in LINK.findall(text) if target and not (document.parent / target).exists()] == []


def test_the_readme_lists_every_setting_and_every_call() -> None:
    text = README.read_text(encoding="utf-8")
    assert [name for name in PARSERS if name not in text] == []
    paths = {shape(operation.path) for operation in OPERATIONS}
    named = {shape(path) for path in re.findall(r"/[a-z0-9][^\s`?,)|]*", text)}
    assert sorted(paths - named - {"/v1/queues/{}/{}"}) == []
