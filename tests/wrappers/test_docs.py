"""docs/wrappers.md: its programs print what they say, its table has every wrapper."""

import re
import subprocess
import sys
from pathlib import Path

from explore_gym import wrappers

PAGE = (Path(__file__).parents[2] / "docs" / "wrappers.md").read_text()
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTED = re.compile(r"^ *print\(.+\)  # (.+)$", re.MULTILINE)


def test_python_blocks_print_what_they_say(tmp_path):
    """All blocks as one program, as a reader would paste them; `print(...)  # value` must print the value."""
    code = "\n".join(BLOCK.findall(PAGE))
    program = tmp_path / "program.py"
    program.write_text(code)
    result = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, cwd=tmp_path, timeout=900)
    assert result.returncode == 0, result.stderr
    assert PRINTED.findall(code) and result.stdout.splitlines() == PRINTED.findall(code)


def test_the_table_has_every_wrapper():
    assert sorted(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == sorted(wrappers.__all__)
