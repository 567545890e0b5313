"""The Procfile as it is read, and ours."""

from pathlib import Path

import pytest

from jobs import procfile
from jobs.errors import InvalidField

ROOT = Path(__file__).parents[2]


def test_lines_keep_their_order_and_comments_are_left_out() -> None:
    text = "# ours\nweb: python -m web\n\n  second-one:   run it  \n"
    assert list(procfile.parse(text).items()) == [("web", "python -m web"), ("second-one", "run it")]


@pytest.mark.parametrize("text", ["web python", "web:", ": python", "we b: python"])
def test_a_line_that_names_no_process_is_refused_with_its_number(text: str) -> None:
    with pytest.raises(InvalidField, match="line 2"):
        procfile.parse(f"ok: yes\n{text}\n")


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("python -m web --title 'two words'", ["python", "-m", "web", "--title", "two words"]),
        ("serve --bind=:$PORT/x ${PORT}", ["serve", "--bind=:8000/x", "8000"]),
        ("sh -c 'echo $UNKNOWN $$ | cat'", ["sh", "-c", "echo $UNKNOWN $$ | cat"]),
    ],
)
def test_a_line_is_split_like_a_shell_does_with_known_variables_filled_in(line: str, argv: list[str]) -> None:
    assert procfile.command(line, {"PORT": "8000"}) == argv


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(InvalidField, match="No closing quotation"):
        procfile.command("run 'open", {})


def test_ours_starts_a_web_a_scheduler_and_a_stock_worker_for_each_queue() -> None:
    lines = procfile.parse((ROOT / "Procfile").read_text())
    commands = {name: procfile.command(line, {}) for name, line in lines.items()}
    assert commands["web"] == ["python", "-m", "web"]
    assert commands["scheduler"] == ["python", "-m", "scheduler"]
    workers = {name: command[-1] for name, command in commands.items() if "rq" in command}
    assert commands["courier"][-2:] == ["delivery", "notify"]
    assert workers == {
        "counter": "entries", "picker": "picking", "packer": "packing", "courier": "notify", "worker": "default",
    }  # fmt: skip
