"""Makes the helpers beside these tests importable, and keeps what they train away from the user's cache."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture(autouse=True)
def models(tmp_path_factory, monkeypatch):
    """Base models are cached for all tests of this session, and away from the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
