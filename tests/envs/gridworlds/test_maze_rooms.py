import numpy as np
import pytest

from explore_gym.envs.gridworlds.maze_rooms import (
    EAST,
    NORTH,
    SOUTH,
    STAY,
    WEST,
    MazeRooms,
    MazeRoomsVector,
    make_maze,
    steps_from,
)

MOVES = {NORTH: (-1, 0), EAST: (0, 1), SOUTH: (1, 0), WEST: (0, -1)}


def room_components(edges, num_rooms):
    """The number of connected components of the graph of rooms."""
    label = list(range(num_rooms))
    for a, b in edges:
        label = [label[a] if x == label[b] else x for x in label]
    return len(set(label))


def tiny_walls(*rows):
    return np.array([[char == "#" for char in row] for row in rows])


def test_breadth_first_distances_of_a_tiny_maze():
    walls = tiny_walls("######", "#..#.#", "##.#.#", "#....#", "#.####", "######")
    expected = [
        [-1, -1, -1, -1, -1, -1],
        [-1, 0, 1, -1, 7, -1],
        [-1, -1, 2, -1, 6, -1],
        [-1, 4, 3, 4, 5, -1],
        [-1, 5, -1, -1, -1, -1],
        [-1, -1, -1, -1, -1, -1],
    ]
    assert steps_from((1, 1), walls).tolist() == expected


def test_the_default_maze_is_a_tree_of_rooms_and_four_more_doors():
    env = MazeRooms()
    maze = env.maze
    assert maze.walls.shape == (45, 45)
    assert env.num_cells == 2025
    assert len(maze.edges) == len(set(map(frozenset, maze.edges))) == 24 + 4
    assert room_components(maze.edges[:24], 25) == 1  # 24 edges that connect 25 rooms: a tree
    assert all(abs(a - b) == 5 or (abs(a - b) == 1 and a // 5 == b // 5) for a, b in maze.edges)
    assert len(maze.doors) == len(set(maze.doors)) == 2 * 28
    blocks = ~maze.walls.reshape(5, 9, 5, 9).transpose(0, 2, 1, 3)
    assert np.all(blocks[:, :, 1:-1, 1:-1])
    assert len(env.reachable) == (~maze.walls).sum() == 25 * 49 + 56
    assert env.shortest_path_length >= 150
    assert env.optimal_return == 1.0
    assert maze.start == (4, 4)


def test_the_goal_is_the_deepest_room_cell():
    env = MazeRooms(layout_seed=3)
    floor = np.zeros((45, 45), bool)
    floor.reshape(5, 9, 5, 9).transpose(0, 2, 1, 3)[:, :, 1:-1, 1:-1] = True
    assert floor[env.maze.goal]
    assert env.distances[env.maze.goal] == env.distances[floor].max() == env.shortest_path_length


@pytest.mark.parametrize("layout_seed", [0, 12, 500])
def test_the_layout_is_the_first_deep_one_and_fixed(layout_seed):
    env, again = MazeRooms(layout_seed=layout_seed), MazeRooms(layout_seed=layout_seed)
    assert env.seed_used >= layout_seed
    for seed in range(layout_seed, env.seed_used):
        maze = make_maze(seed, 5, 7, 4)
        assert maze.distances[maze.goal] < 150
    assert again.maze.edges == env.maze.edges
    np.testing.assert_array_equal(again.maze.walls, env.maze.walls)


def test_layouts_differ_between_seeds():
    layouts = {make_maze(seed, 5, 7, 4).walls.tobytes() for seed in range(30)}
    assert len(layouts) == 30


def test_walking_the_shortest_path_earns_the_reward_at_its_end():
    env = MazeRooms()
    _, info = env.reset(seed=0)
    to_goal = steps_from(env.maze.goal, env.maze.walls)
    row, col = divmod(info["cell"], 45)
    rewards, terminated = [], False
    while not terminated:
        action = next(a for a, (dr, dc) in MOVES.items() if to_goal[row + dr, col + dc] == to_goal[row, col] - 1)
        row, col = row + MOVES[action][0], col + MOVES[action][1]
        _, reward, terminated, truncated, info = env.step(action)
        rewards.append(reward)
        assert info["cell"] == row * 45 + col
    assert len(rewards) == env.shortest_path_length
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]
    assert (truncated, info["success"]) == (False, True)
    assert info["visited"] == len(rewards) + 1
    assert info["coverage"] == (len(rewards) + 1) / 1281


def test_walls_stop_and_stay_stays():
    env = MazeRooms(rooms=2, room_size=1, extra_doors=0, min_depth=0)  # rooms of one cell; the start's has one or two doors
    env.reset(seed=0)
    wall = next(a for a, (dr, dc) in MOVES.items() if env.maze.walls[1 + dr, 1 + dc])
    for action in (wall, STAY):
        _, reward, terminated, _, info = env.step(action)
        assert (reward, terminated, info["cell"], info["visited"]) == (0.0, False, 1 * 6 + 1, 1)


def test_every_move_agrees_with_the_walls():
    env = MazeRooms(rooms=2, room_size=3, extra_doors=1, min_depth=0)
    env.reset(seed=0)
    for row, col in np.argwhere(~env.maze.walls).tolist():
        for action, (dr, dc) in MOVES.items():
            env.set_state(row=row, col=col, done=False)
            target = (row, col) if env.maze.walls[row + dr, col + dc] else (row + dr, col + dc)
            _, reward, terminated, _, info = env.step(action)
            assert divmod(info["cell"], 10) == target
            assert (reward == 1.0) == terminated == info["success"] == (target == env.maze.goal)


def test_the_clock_truncates_at_500():
    env = MazeRooms()
    env.reset(seed=0)
    ends = [env.step(STAY)[2:4] for _ in range(500)]
    assert ends == [(False, False)] * 499 + [(False, True)]


def test_observation_is_two_hot_position_and_patch():
    env = MazeRooms()
    env.reset(seed=0)
    walls, doors = env.maze.walls, env.maze.doors
    door_row, door_col = doors[0]
    for row, col in ((4, 4), (door_row, door_col), env.maze.goal, (1, 1), (43, 43)):
        obs = env.set_state(row=row, col=col)
        assert np.flatnonzero(obs[:90]).tolist() == [col, 45 + row]
        patch = obs[90:].reshape(7, 7)
        for i, j in np.ndindex(7, 7):
            r, c = row + i - 3, col + j - 3
            outside = not (0 <= r < 45 and 0 <= c < 45)
            expected = 1.0 if outside or walls[r, c] else -1.0 if (r, c) == env.maze.goal else 0.5 if (r, c) in doors else 0.0
            assert patch[i, j] == expected


def test_distractors_are_constant_within_rooms_and_differ_between_them():
    plain, env = MazeRooms(), MazeRooms(distractors=40)
    ids, obs = env.cell_observations()
    assert obs.shape == (1281, 139 + 40)
    np.testing.assert_array_equal(obs[:, :139], plain.cell_observations()[1])
    rooms = ids // 45 // 9 * 5 + ids % 45 // 9
    values = {room: np.unique(obs[rooms == room, 139:], axis=0) for room in range(25)}
    assert all(len(v) == 1 for v in values.values())
    assert len(np.unique(np.concatenate(list(values.values())), axis=0)) == 25
    assert -1.0 <= obs[:, 139:].min() < -0.9 < 0.9 < obs[:, 139:].max() < 1.0
    assert env.observation_space.contains(obs[0])


def test_cell_observations_are_those_of_the_environment():
    env = MazeRooms(distractors=3)
    env.reset(seed=0)
    ids, obs = env.cell_observations()
    np.testing.assert_array_equal(ids, env.reachable)
    for k in range(0, len(ids), 97):
        np.testing.assert_array_equal(env.set_state(row=ids[k] // 45, col=ids[k] % 45), obs[k])


def test_room_metric():
    env = MazeRooms()
    assert env.reset(seed=0)[1]["room"] == 0
    env.set_state(row=10, col=43)
    assert env.step(STAY)[4]["room"] == 1 * 5 + 4


def test_episodes_start_alike_with_nothing_visited():
    envs = MazeRoomsVector(num_envs=3, autoreset_mode="SameStep", max_steps=5)
    first, info = envs.reset(seed=0)
    for action in (EAST, SOUTH, EAST, SOUTH, EAST):
        obs, _, _, truncated, info = envs.step(np.full(3, action))
    assert truncated.all()
    np.testing.assert_array_equal(obs, first)
    assert info["visited"].tolist() == [1, 1, 1]
    assert info["final_info"]["visited"].tolist() == [6, 6, 6]


def test_model_values_count_the_steps():
    env = MazeRooms(rooms=2, room_size=3, extra_doors=0, min_depth=0)
    env.reset(seed=0)
    model = env.to_tabular()
    assert len(model.states) == len(env.reachable) - 1  # all but the goal, where it ends
    assert model.optimal_values(gamma=0.9)[0] == pytest.approx(0.9 ** (env.shortest_path_length - 1))


def test_time_limits_below_the_shortest_path_earn_nothing():
    length = MazeRooms().shortest_path_length
    assert MazeRooms(max_steps=length).optimal_return == 1.0
    assert MazeRooms(max_steps=length - 1).optimal_return == 0.0


def test_drawing_shows_walls_start_and_goal():
    env = MazeRooms(render_mode="ansi", rooms=2, room_size=1, extra_doors=1, min_depth=0)
    env.reset(seed=0)
    rows = env.render().split("\n")
    assert rows[0] == "######"
    assert rows[1][1] == "A"
    assert rows[env.maze.goal[0]][env.maze.goal[1]] == "G"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(rooms=1), "rooms must be an integer in .*, got 1"),
        (dict(rooms=40), "rooms must be an integer in .*, got 40"),
        (dict(room_size=0), "room_size must be an integer in .*, got 0"),
        (dict(extra_doors=17), r"extra_doors must be an integer in \[0, 16\], got 17"),
        (dict(distractors=-1), "distractors must be an integer in .*, got -1"),
        (dict(layout_seed=0.5), "layout_seed must be an integer in .*, got 0.5"),
        (dict(max_steps=0), "max_steps must be an integer in .*, got 0"),
        (dict(rooms=2, room_size=1, extra_doors=0, min_depth=50), r"min_depth must suit the maze: .* reach \d+ steps, got 50"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        MazeRooms(**kwargs)
