"""Makes the helpers beside these tests importable, and environments that need compiling only once."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture(scope="session")
def one():
    """One agent in a world of 9x9 cells."""
    from explore_gym.envs.xland.xland import XLand

    env = XLand()
    env.reset(seed=0)
    return env


@pytest.fixture(scope="session")
def two():
    """Two agents, red and blue."""
    from explore_gym.envs.xland.games import XLandGames

    env = XLandGames()
    env.reset(seed=0)
    return env
