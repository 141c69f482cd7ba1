import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import explore_gym  # noqa: F401  registers the ids
from explore_gym.envs.engine.planning import shortest_paths
from explore_gym.envs.gridworlds.four_rooms import FourRooms
from explore_gym.envs.gridworlds.grid import EAST, FORWARD, NORTH, SOUTH, TURN_RIGHT


def test_the_shortest_path_through_four_rooms_by_hand():
    env = FourRooms(size=5, agent_pos=(1, 1), goal_pos=(3, 3))  # every cell beside the walls is a gap
    env.reset(seed=0)
    env.set_state(direction=0)
    assert env.shortest_path() == [FORWARD, FORWARD, TURN_RIGHT, FORWARD, FORWARD]
    env.set_state(row=3, col=3)  # on the goal: a way back to it has to leave it first
    assert len(env.shortest_path()) == 5  # turn, forward, turn, turn, forward


def test_a_path_works_and_the_environment_stays_where_it_was():
    env = gym.make("Explore/FourRooms-v0").unwrapped
    env.reset(seed=3)
    before = env.get_state()
    path = env.shortest_path()
    assert env.get_state() == before
    rewards = [env.step(action)[1] for action in path]
    assert rewards[-1] > 0.0 == sum(rewards[:-1])
    # as many steps as the exact model's values say: the discounted return of one reward
    env.set_state(before)
    model = env.to_tabular()
    value = model.optimal_values(gamma=0.9)[0]
    assert value == pytest.approx(0.9 ** (len(path) - 1) * model.R.max())


def test_no_way_is_none_and_what_cannot_be_searched_is_refused():
    env = FourRooms(size=5, agent_pos=(1, 1), goal_pos=(3, 3))
    env.reset(seed=0)
    grid = env.get_state()["grid"].copy()
    grid[3, 3] = 1  # no goal any more
    env.set_state(grid=grid)
    assert env.shortest_path() is None
    with pytest.raises(ValueError, match=r"more than 10 states \(max_states\)"):
        env.shortest_path(max_states=10)
    river = gym.make("Explore/RiverSwim-v0").unwrapped
    river.reset(seed=0)
    with pytest.raises(ValueError, match="action 0 draws random numbers"):
        river.shortest_path()


def test_shortest_paths_are_the_exact_models_values():
    env = FourRooms(size=5, agent_pos=(1, 1), goal_pos=(3, 3))
    env.reset(seed=0)
    states, steps = shortest_paths(env)
    assert states[0] == env.get_state()
    by_pose = {(s["row"], s["col"], s["direction"]): n for s, n in zip(states, steps.tolist(), strict=True)}
    assert by_pose[3, 2, EAST] == 1
    assert by_pose[3, 1, NORTH] == 1 + 2  # turn, forward, forward
    assert by_pose[1, 1, EAST] == by_pose[1, 1, SOUTH] == 5
    model = env.to_tabular()
    assert len(model.states) == len(states)
    for s, value in zip(model.states, model.optimal_values(gamma=0.9), strict=True):
        assert value == pytest.approx(0.9 ** (by_pose[s["row"], s["col"], s["direction"]] - 1) * model.R.max())


def test_a_path_is_as_long_as_the_number_of_its_steps():
    env = gym.make("Explore/FourRooms-v0").unwrapped
    for seed in range(3):
        env.reset(seed=seed)
        assert len(env.shortest_path()) == shortest_paths(env).steps[0]


def test_states_without_a_way_have_no_steps():
    env = FourRooms(size=5, agent_pos=(1, 1), goal_pos=(3, 3))
    env.reset(seed=0)
    grid = env.get_state()["grid"].copy()
    grid[3, 3] = 1  # no goal any more
    env.set_state(grid=grid)
    assert set(shortest_paths(env).steps.tolist()) == {-1}
    with pytest.raises(ValueError, match=r"shortest_paths found more than 10 states \(max_states\)"):
        shortest_paths(env, max_states=10)


def test_actions_that_are_not_discrete_are_refused():
    space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    with pytest.raises(ValueError, match="shortest_paths needs a Discrete action space, got Box"):
        shortest_paths(types.SimpleNamespace(action_space=space))
