"""Gymnasium environments and reference agents for exploration; importing it registers every `Explore/...` id."""

from explore_gym import envs

__version__ = "0.1.0"

__all__ = ["__version__", "envs"]
