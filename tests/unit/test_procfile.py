"""The Procfile as it is read, and ours."""

from __future__ import annotations

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


def test_two_processes_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidField, match="two processes named web"):
        procfile.parse("web: a\nweb: b\n")


def test_a_plain_line_is_started_without_a_shell() -> None:
    command = procfile.command("python -m web --title 'two words'", {})
    assert command == procfile.Command(("python", "-m", "web", "--title", "two words"), {})


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("serve $PORT", ("serve", "8000")),
        ("serve ${PORT}", ("serve", "8000")),
        ("serve --bind=:${PORT:-9000}/x", ("serve", "--bind=:8000/x")),
        ("serve ${OTHER:-9000}", ("serve", "9000")),
        ("serve $EMPTY ${EMPTY:-used}", ("serve", "", "used")),
        ("serve $SPACED", ("serve", "a b")),
    ],
)
def test_variables_are_filled_in_within_their_word(line: str, argv: tuple[str, ...]) -> None:
    assert procfile.command(line, {"PORT": "8000", "EMPTY": "", "SPACED": "a b"}).argv == argv


def test_leading_assignments_go_to_the_environment_and_later_ones_stay() -> None:
    command = procfile.command("A=1 B='x y' run C=2", {})
    assert (command.argv, command.env) == (("run", "C=2"), {"A": "1", "B": "x y"})


def test_env_is_a_command_like_any_other() -> None:
    command = procfile.command("env RQ_CONFIG=jobs.rq_config rq worker picking", {})
    assert command.argv == ("env", "RQ_CONFIG=jobs.rq_config", "rq", "worker", "picking")


@pytest.mark.parametrize("line", ["a | b", "a && b", "a > b", "(a)", "a `b`"])
def test_only_a_line_with_shell_characters_gets_a_shell(line: str) -> None:
    assert procfile.command(line, {}) == procfile.Command(("/bin/sh", "-c", line), {}, True)


@pytest.mark.parametrize("line", ["A=1", "run 'open"])
def test_a_line_that_starts_nothing_is_refused(line: str) -> None:
    with pytest.raises(InvalidField, match="Procfile"):
        procfile.command(line, {})


def test_ours_starts_a_web_a_scheduler_and_a_stock_worker_for_each_queue() -> None:
    lines = procfile.parse((ROOT / "Procfile").read_text())
    commands = {name: procfile.command(line, {}) for name, line in lines.items()}
    assert commands["web"].argv == ("python", "-m", "web")
    assert commands["scheduler"].argv == ("python", "-m", "scheduler")
    workers = {name: command.argv[-1] for name, command in commands.items() if "rq" in command.argv}
    assert workers == {
        "counter": "entries", "picker": "picking", "packer": "packing", "courier": "delivery", "worker": "default",
    }  # fmt: skip
    assert not any(command.in_shell for command in commands.values())
