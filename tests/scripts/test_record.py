import itertools
import json
import sys

import gymnasium as gym
import numpy as np
import pytest

from explore_gym.agents import common
from explore_gym.scripts import record
from explore_gym.scripts.record import Args, OptimalPolicy, Planner, ShortestPath, main, make_policy, run, save

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("pygame")


def frames_of(path):
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            yield np.asarray(image.convert("RGB"))


def test_the_gif_shows_the_steps_and_the_png_the_middle_one(tmp_path):
    frames = [np.full((40, 80, 3), 250, np.uint8) for _ in range(5)]
    for i, frame in enumerate(frames):
        frame[10:30, 16 * i : 16 * i + 16] = (200, 30, 30)  # a red block that moves right
    gif, png = save(frames, tmp_path / "new" / "moving-v0", fps=20, scale=0.5)
    assert (gif.name, png.name) == ("moving-v0.gif", "moving-v0.png")
    shown = list(frames_of(gif))
    assert [int((frame[10, :, 1] < 100).argmax()) for frame in shown] == [0, 8, 16, 24, 32]
    assert shown[0].shape == (20, 40, 3)
    assert (next(frames_of(png)) == shown[2]).all()
    with Image.open(gif) as image:
        assert image.info["duration"] == 50  # ms: 20 frames per second


def test_large_areas_keep_their_colours(tmp_path):
    frame = np.full((64, 64, 3), (214, 226, 186), np.uint8)
    frame[:16] = np.random.default_rng(0).integers(256, size=(16, 64, 3))  # more colours than the palette has
    frame[8:12, 8:12] = (200, 30, 30)
    _, png = save([frame] * 2, tmp_path / "noisy", fps=10, scale=1.0)
    (shown,) = frames_of(png)
    assert (shown[16:] == (214, 226, 186)).all()
    assert (shown[8:12, 8:12] == (200, 30, 30)).all()


def test_a_recording_has_frames_that_differ_and_is_small(tmp_path):
    gif, png = run(Args(env="Explore/DeepSea-v0", steps=12, scale=0.25, out=tmp_path / "sea"))
    frames = list(frames_of(gif))
    assert len(frames) == 14  # 10 steps and a reset, then 2 more, and the first frame
    assert all((a != b).any() for a, b in itertools.pairwise(frames))
    assert frames[0].shape == (160, 160, 3)
    assert gif.stat().st_size < 50_000
    assert png.stat().st_size < 10_000


def test_pictures_go_to_the_docs_under_the_name_of_the_id(tmp_path, monkeypatch):
    assert record.PICTURES.parts[-2:] == ("docs", "pictures")
    monkeypatch.setattr(record, "PICTURES", tmp_path)
    run(Args(env="Explore/RiverSwim-v0", steps=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["RiverSwim-v0.gif", "RiverSwim-v0.png"]


def test_the_same_seed_makes_the_same_recording(tmp_path):
    paths = [
        run(Args(env="Explore/RiverSwim-v0", steps=20, seed=seed, out=tmp_path / f"{i}"))[0] for i, seed in enumerate([3, 3, 4])
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() != paths[2].read_bytes()


def test_the_optimal_policy_dives_for_the_treasure():
    env = gym.make("Explore/DeepSea-v0", size=6, randomize_actions=True, mapping_seed=1)
    obs, _ = env.reset(seed=0)
    policy, total, terminated = OptimalPolicy(env), 0.0, False
    while not terminated:
        obs, reward, terminated, _, _ = env.step(policy(obs))
        total += reward
    assert total == pytest.approx(0.99)  # the treasure, less six moves right at 0.01 / 6


def test_optimal_policies_are_solved_anew_for_each_layout():
    env, steps = gym.make("Explore/FourRooms-v0"), {}
    for solver in (OptimalPolicy, ShortestPath):
        policy, steps[solver] = solver(env), []
        for seed in range(2):
            obs, _ = env.reset(seed=seed)
            terminated, count = False, 0
            while not terminated and count < 60:
                obs, reward, terminated, _, _ = env.step(policy(obs))
                count += 1
            assert terminated
            assert reward == pytest.approx(1 - 0.9 * count / 100)
            steps[solver].append(count)
    assert steps[OptimalPolicy] == steps[ShortestPath]


def test_the_planner_solves_trial_after_trial():
    """Each of its steps belongs to a plan that ends with the trial: at the goal, or when the time is up."""
    env = gym.make("Explore/XLand-v0")
    obs, _ = env.reset(seed=0)
    policy, solved = Planner(env), 0
    for _ in range(60):
        obs, _, terminated, _, info = env.step(policy(obs))
        assert (not policy.actions) == terminated == info["success"]
        if terminated:
            obs, _ = env.reset()
            solved += 1
    assert solved >= 3
    short = gym.make("Explore/XLand-v0", trial_steps=3)
    obs, _ = short.reset(seed=0)
    policy = Planner(short)
    truncations = [short.step(policy(obs))[3] for _ in range(3)]
    assert (truncations, policy.actions) == ([False, False, True], [])


@pytest.mark.parametrize(
    ("id", "policy", "most"),
    [("TopoNav-Small-v0", "frontier", 200), ("TopoNav-Small-v0", "oracle", 100), ("HardMaze-v0", "oracle", 500)],
)
def test_scripted_explorers_reach_the_goal_in_episode_after_episode(id, policy, most):
    kwargs = {"reward": "reach"} if id == "HardMaze-v0" else {"drift": 0.0}
    env = gym.make(f"Explore/{id}", **kwargs)
    actor = make_policy(policy, env, seed=0)
    for seed in range(2):
        (obs, _), start, reward, terminated, count = env.reset(seed=seed), True, 0.0, False, 0
        while not terminated and count < most:
            obs, reward, terminated, _, _ = env.step(actor(obs, start, reward))
            start, count = False, count + 1
        assert (reward, terminated) == (1.0, True)


def test_joint_actions_are_random_or_each_agents_own(tmp_path, monkeypatch):
    config = {"args": {"env": "Explore/XLand-Tag-v0", "env_kwargs": '{"trial_steps": 2}'}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = []

    def policy(obs, starts, rewards):
        asked.append((obs["direction"].tolist(), starts.tolist(), rewards.tolist()))
        return np.array([1, 2])  # right, left

    monkeypatch.setattr(common, "load_policy", lambda run_dir: policy)
    run(Args(run_dir=tmp_path, steps=3, out=tmp_path / "trained"))
    (first, second, third) = asked
    assert [(b - a) % 4 for a, b in zip(first[0], second[0])] == [1, 3]
    assert [starts for _, starts, _ in asked] == [[True] * 2, [False] * 2, [True] * 2]
    assert second[2] in ([0.0, 1.0], [1.0, 0.0]) and first[2] == third[2] == [0.0, 0.0]  # tagged or not
    frames = list(frames_of(run(Args(env="Explore/XLand-Tag-v0", steps=8, scale=0.3, out=tmp_path / "random"))[0]))
    assert len(frames) > 2


def test_a_trained_policy_is_asked_with_batches_and_takes_env_and_kwargs_from_its_run(tmp_path, monkeypatch):
    config = {"args": {"env": "Explore/FourRooms-v0", "env_kwargs": '{"size": 9}'}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = []

    def load_policy(run_dir):
        assert run_dir == tmp_path

        def policy(obs, starts, rewards):
            asked.append((obs, starts.tolist(), rewards.tolist()))
            return np.array([2])

        return policy

    monkeypatch.setattr(common, "load_policy", load_policy, raising=False)
    gif, _ = run(Args(run_dir=tmp_path, steps=3, out=tmp_path / "trained"))
    assert gif.exists()
    obs, *_ = asked[0]
    assert obs["image"].shape == (1, 7, 7, 3)
    assert obs["direction"].shape == (1,)
    assert obs["mission"] == ("reach the goal",)
    assert [call[1:] for call in asked] == [([True], [0.0]), ([False], [0.0]), ([False], [0.0])]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which environment? pass --env or --run-dir"),
        (["--env", "Explore/Nowhere-v0"], "cannot make 'Explore/Nowhere-v0'"),
        (["--env", "Explore/RiverSwim-v0", "--steps", "0"], "steps must be positive, got 0"),
        (["--env", "Explore/RiverSwim-v0", "--scale", "-0.5"], "scale must be positive, got -0.5"),
        (["--env", "Explore/RiverSwim-v0", "--env-kwargs", "9"], "env_kwargs must be a JSON object"),
        (["--env", "CartPole-v1", "--policy", "optimal"], "needs an environment with to_tabular(), got CartPole-v1"),
        (["--env", "Explore/XLand-Tag-v0", "--policy", "planner"], "needs XLand for one agent, got Explore/XLand-Tag-v0"),
        (["--env", "Explore/RiverSwim-v0", "--policy", "oracle"], "the oracle TopoNav or HardMaze, got Explore/RiverSwim-v0"),
        (["--env", "Explore/MetaBandit-v0", "--policy", "optimal"], "to_tabular needs discrete random draws"),
        (["--run-dir", "nowhere"], "run_dir must hold a run, but there is no nowhere/config.json"),
    ],
)
def test_bad_arguments_end_with_one_line_that_names_them(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["record.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
