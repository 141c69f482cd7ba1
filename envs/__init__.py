"""The registry: every id of the suite. Importing it registers the ids; an environment's module loads when it is made."""

from typing import Any

from gymnasium import register

# id without the namespace -> module:class below explore_gym.envs, keyword arguments
ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "MetaBandit-v0": ("bandits.meta_bandit:MetaBandit", {}),
    "DeepSea-v0": ("tabular.deep_sea:DeepSea", {}),
    "RiverSwim-v0": ("tabular.river_swim:RiverSwim", {}),
    "FourRooms-v0": ("gridworlds.four_rooms:FourRooms", {}),
    "MazeRooms-v0": ("gridworlds.maze_rooms:MazeRooms", {}),
}
NAMESPACE = "Explore"

for _name, (_path, _kwargs) in ENVIRONMENTS.items():
    register(
        id=f"{NAMESPACE}/{_name}",
        entry_point=f"{__name__}.{_path}",
        vector_entry_point=f"{__name__}.{_path}Vector",
        kwargs=_kwargs,
    )
