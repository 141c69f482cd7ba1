import sys

import gymnasium as gym
import numpy as np
import pytest

from explore_gym.agents import common
from explore_gym.scripts.play import Game, TrainedPolicy, keys_of, main, make_env, picture, play

pygame = pytest.importorskip("pygame")


@pytest.fixture
def press(monkeypatch):
    """Puts key presses into pygame's queue, for a window that isn't shown."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.init()
    pygame.display.set_mode((1, 1))
    yield lambda *names: [
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.key.key_code(name))) for name in names
    ]
    pygame.quit()


def test_keys_move_the_agent_and_escape_leaves(press):
    env = make_env("Explore/DeepSea-v0", '{"size": 10, "randomize_actions": false}')
    press("1", "1", "0", "x", "escape", "1")  # right, right, left; x is no action; the last one comes too late
    game = play(env)
    state = env.unwrapped.get_state()
    assert (state["row"], state["column"]) == (3, 1)
    assert game.steps == 3
    assert game.episode_return == pytest.approx(-2 * 0.01 / 10)  # two moves right at 0.01 / size each


def test_closing_the_window_leaves(press):
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert play(make_env("Explore/RiverSwim-v0", "{}")).steps == 0


def test_the_end_of_an_episode_is_told_and_the_next_key_starts_a_new_one():
    game = Game(make_env("Explore/RiverSwim-v0", '{"max_steps": 2}'), seed=0)
    game.press("left")
    game.press("left")
    assert game.lines()[0] == "step 2   reward 0.005   return 0.01   truncated: any action key goes on"
    game.press("left")
    assert game.lines()[0] == "step 0   reward 0   return 0"
    game.press("left")
    game.press("backspace")
    assert game.steps == 0


def test_a_class_that_names_keys_is_played_with_them():
    env = make_env("Explore/RiverSwim-v0", "{}")
    env.unwrapped.keys = {"left": 0, "right": 1}
    game = Game(env, seed=0)
    game.press("left")
    game.press("0")
    assert (game.steps, game.reward) == (1, 0.005)
    assert "left: 0   right: 1" in game.lines()


def test_minigrid_is_played_with_arrows():
    pytest.importorskip("minigrid")
    env = make_env("MiniGrid-Empty-5x5-v0", "{}")
    game = Game(env, seed=0)
    for key in ("up", "right", "up"):  # from (1, 1), facing right
        game.press(key)
    assert (env.unwrapped.agent_pos, env.unwrapped.agent_dir) == ((2, 2), 1)


def test_xland_is_played_with_arrows_and_tells_goal_and_rules_in_its_picture():
    game = Game(make_env("Explore/XLand-v0", "{}"), seed=0)
    game.press("up")
    assert (game.steps, game.info["cell"]) == (1, 2 * 9 + 7)  # from (1, 7), looking down
    height, width, _ = game.env.render().shape
    panel = game.env.render()[:, height:]  # beside the 9x9 cells
    assert width > 2 * height and (panel.max(2) < 100).any()


def test_of_several_agents_the_keys_move_one_and_the_others_act_at_random():
    env = make_env("Explore/XLand-Tag-v0", "{}")
    ends = []
    for seed in (0, 0, 1):
        game = Game(env, seed=0, agent=1)
        game.others.space.seed(seed)
        start = env.unwrapped.get_state()["direction"].tolist()
        for _ in range(5):
            game.press("right")
        state = env.unwrapped.get_state()
        assert int(state["direction"][1]) == (start[1] + 5) % 4  # turned five times to the right
        assert game.reward == game.info["rewards"][1]
        ends.append((int(state["row"][0]), int(state["col"][0]), int(state["direction"][0])))
    assert ends[0] == ends[1] != ends[2]
    assert game.lines()[0].startswith("agent 1   step 5   reward ")


def test_others_are_played_by_a_run_that_sees_what_each_of_them_sees(tmp_path, monkeypatch):
    calls = []

    def policy(obs, starts, rewards):
        calls.append((obs["image"].shape, starts.tolist(), rewards.tolist()))
        return np.array([2, 2, 2])  # turn left

    monkeypatch.setattr(common, "load_policy", lambda run_dir: policy)
    env = make_env("Explore/XLand-KeepAway-v0", '{"trial_steps": 2}')
    game = Game(env, seed=0, agent=2, others=TrainedPolicy(env, tmp_path))
    before = env.unwrapped.get_state()["direction"]
    game.press("right")
    first = game.info["rewards"].tolist()
    assert ((env.unwrapped.get_state()["direction"] - before) % 4).tolist() == [3, 3, 1]
    game.press("right")
    game.press("right")  # a new episode
    game.press("right")
    images = (3, 7, 7, 2)
    assert [call[:2] for call in calls] == [(images, [True] * 3), (images, [False] * 3), (images, [True] * 3)]
    assert [call[2] for call in calls] == [[0.0] * 3, first, [0.0] * 3]


def test_digits_and_letters_follow_the_order_of_actions():
    env = gym.make("CartPole-v1")
    env.action_space = gym.spaces.Discrete(12, start=-1)
    keys = keys_of(env)
    assert list(keys) == list("0123456789ab")
    assert (keys["0"], keys["b"]) == (-1, 10)


def test_the_picture_fits_the_window_and_keeps_its_shape(press):
    frame = np.full((10, 40, 3), 255, np.uint8)
    frame[:, 20:] = (200, 0, 0)
    surface = picture(pygame, frame, ["one", "two"], pygame.font.Font(None, 22))
    assert surface.get_size() == (640, 160 + 2 * 8 + 2 * 22)
    assert surface.get_at((10, 80))[:3] == (255, 255, 255)
    assert surface.get_at((630, 159))[:3] == (200, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "Explore/Nowhere-v0"], "cannot make 'Explore/Nowhere-v0'"),
        (["--env", "Explore/RiverSwim-v0", "--env-kwargs", "[1]"], "env_kwargs must be a JSON object"),
        (["--env", "Explore/RiverSwim-v0", "--env-kwargs", '{"size": 2}'], "size must be an integer in [3, 1000], got 2"),
        (["--env", "Explore/RiverSwim-v0", "--env-kwargs", '{"length": 2}'], "got an unexpected keyword argument 'length'"),
        (["--env", "Explore/XLand-Tag-v0", "--agent", "2"], "agent must lie in [0, 2), got 2"),
        (["--env", "Explore/XLand-Tag-v0", "--run-dir", "nowhere"], "run_dir must hold a run, but there is no nowhere"),
        (["--env", "Pendulum-v1"], "the keyboard needs a Discrete action space, got Box"),
    ],
)
def test_bad_arguments_end_with_one_line_that_names_them(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["play.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_help_lists_the_keys(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["play.py", "--help"])
    with pytest.raises(SystemExit):
        main()
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "page up = pick up" in text
    assert "Backspace starts a new episode" in text
