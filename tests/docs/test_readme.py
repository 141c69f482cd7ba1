"""README, CONTRIBUTING and the guides: programs print what they say, excerpts and commands are those of the files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Pages whose Python blocks run
PROGRAMS = ["README.md", "docs/engine.md", "docs/checker.md", "docs/guides/bandits.md", "docs/guides/text.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^ *print\(.+\)  # (.+)$", re.MULTILINE)


def blocks(page, language):
    return [code for kind, code in BLOCK.findall((ROOT / page).read_text()) if kind == language]


@pytest.mark.slow
@pytest.mark.parametrize("page", PROGRAMS)
def test_python_blocks_print_what_they_say(page, tmp_path):
    """All blocks of a page as one program, as a reader would paste them; `print(...)  # value` must print the value."""
    code = "\n".join(blocks(page, "python"))
    assert code, f"{page} has no Python blocks"
    program = tmp_path / "program.py"
    program.write_text(code)
    result = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path, timeout=900)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == PRINTED.findall(code)


def test_excerpts_are_in_the_files_they_are_from():
    """Python blocks of CONTRIBUTING.md: a comment with the path, then parts of that file separated by dots."""
    for block in blocks("CONTRIBUTING.md", "python"):
        path, _, excerpt = block.partition("\n")
        text = (ROOT / path.removeprefix("# ")).read_text()
        position = 0
        for part in excerpt.split("...\n"):
            assert part in text[position:], f"{path} has no\n{part}"
            position = text.index(part, position)


def test_install_and_test_commands_are_those_of_ci():
    ci = (ROOT / ".ci" / "run").read_text().replace(" --quiet", "")
    main_job, tests = blocks("README.md", "bash")
    for command in tests.splitlines()[2:]:
        assert f"\n{command}\n" in ci
    assert main_job.splitlines()[:2] == tests.splitlines()[:2] == ["python3.11 -m venv .venv", ". .venv/bin/activate"]
    assert main_job.splitlines()[-1] == "python agents/rdd.py"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", (ROOT / page).read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_files_named_exist():
    """Paths in code font, such as `envs/engine/kernel.py`."""
    for page in ("README.md", "CONTRIBUTING.md"):
        paths = re.findall(r"`((?:agents|docs|envs|scripts|tests|wrappers)/[\w/.-]+\.\w+)`", (ROOT / page).read_text())
        assert paths, page
        assert [path for path in paths if not (ROOT / path).exists()] == [], page
