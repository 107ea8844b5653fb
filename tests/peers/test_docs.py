"""Every command the documentation shows exists, with the flags it is shown with."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from conftest import ROOT

PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]
)
COMMAND = re.compile(r"(?:^|[|;&] *)asof ([a-z]+)([^|#;&]*)")


def shown(page: Path) -> list[tuple[str, list[str]]]:
    """Commands of the page's code blocks and the flags each is shown with."""
    found = []
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("    "):
            for command, rest in COMMAND.findall(line.strip()):
                found.append((command, re.findall(r"--[a-z-]+", rest)))
    return found


@pytest.fixture(scope="session")
def help_of(binary: Path):
    @cache
    def read(command: str) -> str:
        done = subprocess.run([binary, command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"there is no command `asof {command}`"
        return done.stdout
    return read


@pytest.mark.parametrize("page", [page for page in PAGES if shown(page)], ids=lambda page: page.name)
def test_every_command_shown_exists(page: Path, help_of) -> None:
    for command, flags in shown(page):
        for flag in flags:
            assert re.search(rf"{flag}\b", help_of(command)), f"`asof {command}` has no flag {flag}"
        help_of(command)


def test_the_pages_show_commands() -> None:
    assert len({command for page in PAGES for command, _ in shown(page)}) >= 12
