import math

import numpy as np
import pytest

from explore_gym.envs.navigation.redundant_arm import BARS, JOINTS, RedundantArm, RedundantArmVector

SPIRAL = np.linspace(0.2 * math.pi, 0.05 * math.pi, JOINTS)
REST = np.zeros(JOINTS, np.float32)


def joints(angles):
    """Places (21, 2) of the joints and the tip."""
    direction = math.pi / 2 + np.cumsum(angles)
    return 0.5 + np.concatenate([[[0.0, 0.0]], np.cumsum(0.05 * np.stack([np.cos(direction), np.sin(direction)], 1), 0)])


def is_legal(angles, tried, last_speed):
    """The rules of the released code, one by one and slowly."""
    before, after = joints(angles), joints(tried)
    if np.linalg.norm(after[-1] - before[-1]) / 2 + last_speed > 1.0:
        return False
    if after.min() < 0.0 or after.max() >= 1.0:
        return False
    if any(left < x < right and top < y < bottom for left, top, right, bottom in BARS for x, y in after):
        return False
    return all(np.abs(after[i] - after[j]).sum() >= 0.95 * 0.05 for i in range(21) for j in range(i))


def test_the_arm_starts_as_a_spiral():
    env = RedundantArm()
    obs, info = env.reset(seed=0)
    assert obs == pytest.approx(np.linspace(0.2, 0.05, JOINTS))
    assert info["outcome"] == pytest.approx(joints(SPIRAL)[-1])
    assert (info["cell"], info["coverage"]) == (34 * 50 + 15, 1 / 2500)  # at (0.306, 0.692)


def test_torques_speed_joints_up():
    env = RedundantArm()
    env.reset(seed=0)
    torques = REST.copy()
    torques[[0, 5]] = 1.0, -0.5
    env.step(torques)
    state = env.get_state()
    assert state["speeds"][[0, 5, 7]] == pytest.approx([0.01, -0.005, 0.0])  # two moves of half of the torque times 0.01 s
    assert state["angles"] - SPIRAL == pytest.approx(1.5e-4 * torques)  # 0.005 * 0.01 s, then 0.01 * 0.01 s
    assert np.stack([state["x"], state["y"]], 1) == pytest.approx(joints(state["angles"]))
    env.step(REST)
    assert env.get_state()["angles"][0] - SPIRAL[0] == pytest.approx(3.5e-4)  # it glides on


def test_moves_obey_the_released_rules():
    rng, num_envs = np.random.default_rng(0), 40
    envs = RedundantArmVector(num_envs=num_envs, autoreset_mode="Disabled")
    envs.reset(seed=0)
    torques = (rng.choice([-1, 1], (num_envs, JOINTS)) * rng.uniform(0.2, 1.0, (num_envs, JOINTS))).astype(np.float32)
    angles, speeds, lengths = np.tile(SPIRAL, (num_envs, 1)), np.zeros((num_envs, JOINTS)), np.full(num_envs, 100)
    for n in range(num_envs):
        for move in range(200):
            speed = speeds[n] + 0.5 * 0.01 * torques[n].astype(float)
            if not is_legal(angles[n], angles[n] + 0.01 * speed, speeds[n, -1]):
                lengths[n] = move // 2 + 1
                break
            angles[n], speeds[n] = angles[n] + 0.01 * speed, speed
    ends, last = np.zeros(num_envs, int), np.zeros((num_envs, JOINTS))
    for t in range(1, 101):
        _, _, terminated, truncated, info = envs.step(torques)
        new = (ends == 0) & terminated
        ends[new], last[new] = t, envs.get_state()["angles"][new]
        assert (info["stopped"] == terminated)[new].all() or t == 100
        assert not truncated.any()
        if terminated.any():
            envs.reset(options={"reset_mask": terminated})
    assert (lengths < 100).sum() > 10 and (ends == lengths).all()
    np.testing.assert_allclose(last, angles, atol=1e-12)


@pytest.mark.parametrize(
    "angles",
    [
        np.zeros(JOINTS),  # straight on, out of the square and through a bar
        np.r_[0.25 * math.pi, np.zeros(8), 0.9 * math.pi, np.zeros(10)],  # turns back onto itself
        np.r_[np.zeros(7), 0.5 * math.pi, np.zeros(12)],  # its seventh joint is in the lower bar
    ],
    ids=["outside", "crossed", "bar"],
)
def test_illegal_places_stop_the_arm(angles):
    env = RedundantArm()
    env.reset(seed=0)
    x, y = joints(angles).T
    env.set_state(angles=angles, x=x, y=y)
    assert not is_legal(angles, angles, 0.0)
    *_, terminated, _, info = env.step(REST)
    assert terminated and info["stopped"]


def test_the_last_joint_may_not_be_too_fast():
    env = RedundantArm()
    for speed, stops in ((0.98, False), (1.001, True)):
        env.reset(seed=0)
        speeds = np.zeros(JOINTS)
        speeds[-1] = speed
        env.set_state(speeds=speeds)
        *_, terminated, _, info = env.step(REST)
        assert (terminated, info["stopped"]) == (stops, stops)
    assert env.get_state()["angles"] == pytest.approx(SPIRAL)  # the illegal move isn't made


def test_the_last_place_pays_also_after_a_stop():
    tip = joints(SPIRAL)[-1]
    for steps, speed, stopped in ((1, 0.0, False), (50, 2.0, True)):
        env = RedundantArm(steps=steps, radius=0.5)
        env.reset(seed=0)
        speeds = np.zeros(JOINTS)
        speeds[-1] = speed
        env.set_state(speeds=speeds)
        _, reward, terminated, _, info = env.step(REST)
        assert terminated and (info["stopped"], info["reward_area"], info["reached"]) == (stopped, 0, True)
        assert reward == pytest.approx(1.0 - math.dist(tip, (0.25, 0.25)) / 0.5)  # the first goal whose area holds the tip
    env = RedundantArm(steps=2, radius=0.25)
    env.reset(seed=0)
    assert env.step(REST)[1:3] == (0.0, False)
    _, reward, terminated, _, info = env.step(REST)
    assert terminated and info["reward_area"] == 2
    assert reward == pytest.approx(1.0 - math.dist(tip, (0.25, 0.9)) / 0.25)


def test_coverage_counts_the_cells_of_the_tip():
    env = RedundantArm()
    env.reset(seed=0)
    torques = np.full(JOINTS, -0.4, np.float32)
    cells, over = {34 * 50 + 15}, False
    while not over:
        *_, over, _, info = env.step(torques)
        x, y = info["outcome"]
        cells.add(int(50 * y) * 50 + int(50 * x))
        assert info["coverage"] == len(cells) / 2500
    assert len(cells) > 5


def test_rasters_show_arm_bars_and_goals():
    envs = RedundantArmVector(num_envs=2, autoreset_mode="Disabled")
    envs.reset(seed=0)
    envs.step(np.stack([REST, np.full(JOINTS, -1.0, np.float32)]))
    states = envs.get_state()
    frames = envs.env.raster(states)
    assert (frames.shape, frames.dtype) == ((2, 64, 64, 3), np.uint8)
    for frame, state in zip(frames, states):
        for x, y in zip(state["x"], state["y"]):
            assert frame[int(64 * y), int(64 * x)].tolist() == [0, 0, 0]
        assert frame[3, 31].tolist() == frame[32, 3].tolist() == [0, 0, 0]  # bars
        assert frame[16, 16].tolist() == frame[54, 54].tolist() == frame[57, 16].tolist() == [255, 0, 0]
        assert frame[40, 60].tolist() == [255, 255, 255]
    assert envs.env.raster(states, goals=False)[0, 16, 16].tolist() == [255, 255, 255]
    single = RedundantArm()
    single.reset(seed=0)
    assert single.raster(size=32).shape == (32, 32, 3)
    assert (single.raster(distractors=3, seed=0) != single.raster()).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(radius=0.0), r"radius must be a number in \[1e-06, 0.5\], got 0.0"),
        (dict(radius=0.6), "got 0.6"),
        (dict(steps=0), r"steps must be an integer in \[1, 10000\], got 0"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RedundantArm(**kwargs)


def test_the_drawing_shows_arm_bars_and_goals():
    env = RedundantArm(render_mode="ansi")
    env.reset(seed=0)
    rows = env.render().split("\n")
    x, y = (20 * joints(SPIRAL)[-1]).astype(int)
    assert (rows[y][x], rows[5][5], rows[17][17], rows[1][9]) == ("@", "G", "G", "#")
    env = RedundantArm(render_mode="rgb_array")
    env.reset(seed=0)
    fine = env.render()
    env.set_state(stopped=1)
    x, y = (600 * joints(SPIRAL)[10]).astype(int)
    assert tuple(fine[y, x]) == (44, 38, 92) and tuple(env.render()[y, x]) == (214, 66, 52)  # red where it got stuck
