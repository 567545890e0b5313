"""Every type of problem is documented, with its status; the parts that answer without the application use the same."""

import re

from processes import ROOT

from web.problems import KNOWN, TYPES
from web.refusal import NAMES

ROW = re.compile(r"^\| `([a-z-]+)` \| (\d{3}) \|", re.MULTILINE)


def test_the_document_lists_every_type_of_problem_with_its_status() -> None:
    text = (ROOT / "docs" / "front-door.md").read_text(encoding="utf-8")
    section = text.partition("\n## Errors\n")[2].partition("\n## ")[0]
    assert {name: int(status) for name, status in ROW.findall(section)} == {name: of for name, (of, _title) in TYPES.items()}


def test_a_type_means_one_status_wherever_it_is_answered() -> None:
    named = [(name, status) for status, name in [*KNOWN.values(), *NAMES.items()] if isinstance(name, str)]
    assert [(name, status) for name, status in named if TYPES[name][0] != status] == []
