"""Every program of docs/interoperability.md, on its own, with the library that it is about."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "interoperability.md"
SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^ *print\(.+\)  # (.+)$", re.MULTILINE)
NEEDED = {
    "stable-baselines3": ["stable_baselines3"],
    "A loop in the style of CleanRL": ["torch"],
    "TorchRL": ["torchrl"],
    "Ray RLlib": ["ray", "pydantic"],
}


def programs():
    sections = dict(SECTION.findall(PAGE.read_text()))
    return {title: re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for title, text in sections.items()}


def test_every_library_has_one_program_that_prints():
    found = programs()
    assert list(found) == list(NEEDED)
    for title, blocks in found.items():
        assert len(blocks) == 1, title
        assert PRINTED.findall(blocks[0]), title


@pytest.mark.slow
@pytest.mark.parametrize("title", NEEDED)
def test_a_program_prints_what_it_says(title, tmp_path):
    missing = [name for name in NEEDED[title] if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed")
    (code,) = programs()[title]
    program = tmp_path / "program.py"
    program.write_text(code)
    quiet = {**os.environ, "RL_LOGGING_LEVEL": "ERROR"}  # TorchRL logs to stdout
    command = [sys.executable, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600, env=quiet)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PRINTED.findall(code)
