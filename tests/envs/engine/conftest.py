import importlib.util
import pathlib
import sys

import gymnasium as gym
import pytest


@pytest.fixture(scope="session")
def toy():
    """The module toy.py beside this file, with its environment registered as Toy/Chain-v0."""
    spec = importlib.util.spec_from_file_location("toy", pathlib.Path(__file__).with_name("toy.py"))
    module = sys.modules["toy"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gym.register("Toy/Chain-v0", entry_point="toy:Chain", vector_entry_point="toy:ChainVector")
    return module
