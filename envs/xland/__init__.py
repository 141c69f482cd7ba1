"""XLand-like worlds: procedurally generated rooms, production rules and goals, for one agent and for several."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explore_gym.envs.xland.lanes import AgentLanes
    from explore_gym.envs.xland.parallel import XLandParallel
    from explore_gym.envs.xland.xland import XLandEnv

GAMES = {  # tasks for several agents
    "Games": "games:XLandGames",
    "HideAndSeek": "hide_and_seek:XLandHideAndSeek",
    "Tag": "tag:XLandTag",
    "CaptureTheFlag": "capture_the_flag:XLandCaptureTheFlag",
    "KeepAway": "keep_away:XLandKeepAway",
}


def game_class(name: str) -> "type[XLandEnv]":
    """The class of a task for several agents.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in GAMES:
        raise ValueError(f"name must be one of {', '.join(GAMES)}, got {name!r}")
    module, _, cls = GAMES[name].partition(":")
    return getattr(importlib.import_module(f"explore_gym.envs.xland.{module}"), cls)


def parallel_env(name: str, **kwargs: Any) -> "XLandParallel":
    """A task for several agents as a PettingZoo `ParallelEnv`.

    Args:
        name: "Games", "HideAndSeek", "Tag", "CaptureTheFlag" or "KeepAway".
        kwargs: the task's arguments.

    Raises:
        ValueError: the name is unknown.
        ImportError: PettingZoo isn't installed.
    """
    from explore_gym.envs.xland.parallel import XLandParallel

    return XLandParallel(game_class(name)(**kwargs))


def agent_lanes(name: str, num_envs: int, **kwargs: Any) -> "AgentLanes":
    """A task for several agents as a Gymnasium vector environment whose lanes are agents: lane i * agents + j is j of world i.

    Args:
        name: as in `parallel_env`.
        num_envs: number of worlds.
        kwargs: options of `KernelVectorEnv` and the task's arguments.

    Raises:
        ValueError: the name is unknown.
    """
    from explore_gym.envs.engine.vector import vectorize
    from explore_gym.envs.xland.lanes import AgentLanes

    return AgentLanes(vectorize(game_class(name))(num_envs=num_envs, **kwargs))
