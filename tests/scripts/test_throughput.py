import itertools
import json
import os
import signal
import subprocess
import sys
import time

import gymnasium as gym
import pytest

from explore_gym.envs.engine.kernels import Record
from explore_gym.envs.xland.drawing import goal_lines, rule_lines, tile_name
from explore_gym.scripts import throughput
from explore_gym.scripts.throughput import Args, Contestant, alternate, main, ratios, run, run_training, single

SHORT = ["--seconds", "0.01", "--rounds", "2"]


def sleeper(name, seconds, log, num_envs=1):
    """A contestant whose call takes so long, and is written down."""

    def play(actions):
        for _ in actions:
            time.sleep(seconds)
            log.append(name)

    return Contestant(play, [0], num_envs)


def test_a_call_counts_once_per_environment():
    contestant = sleeper("a", 0.02, [], num_envs=10)
    assert 10 / 0.06 < contestant.measure(0.1) <= 10 / 0.02  # a busy machine sleeps longer, never shorter


def test_a_chunk_holds_whole_periods():
    log = []
    contestant = Contestant(lambda actions: log.append(sum(1 for _ in actions)), [0], num_envs=1, period=7)
    contestant.measure(0.0)
    assert all(calls % 7 == 0 for calls in log)
    assert log[-1] > 7  # 7 calls that do nothing take far less than the least chunk


def test_both_sides_are_measured_in_turns():
    log = []
    first, second = sleeper("first", 0.001, log), sleeper("second", 0.01, log)
    log.clear()
    speeds = alternate(first, second, rounds=3, seconds=0.03)
    assert [name for name, _ in itertools.groupby(log)] == ["first", "second"] * 3
    assert len(speeds) == 3
    assert all(a > b for a, b in speeds)


def test_a_ratio_is_taken_within_its_round():
    row = ratios([(100.0, 10.0), (30.0, 1.0), (80.0, 4.0)])  # 10, 30 and 20 times
    assert row == {"ours": 80.0, "theirs": 4.0, "ratio": 20.0, "ratio_min": 10.0, "ratio_max": 30.0}


def test_a_single_environment_is_reset_where_its_episode_ends_and_the_reset_is_a_step():
    calls = []

    class Log(gym.Wrapper):
        def reset(self, **kwargs):
            calls.append("reset")
            return super().reset(**kwargs)

        def step(self, action):
            calls.append("step")
            return super().step(action)

    contestant = single(Log(gym.make("Explore/RiverSwim-v0", max_steps=3, disable_env_checker=True)))
    warm_up = len(calls)
    contestant.measure(0.0)
    assert len(calls) - warm_up == contestant.chunk
    assert calls[:9] == ["reset", "step", "step", "step", "reset", "step", "step", "step", "reset"]


def test_every_id_and_size_gets_a_row_in_the_file(tmp_path, monkeypatch, capsys):
    out = tmp_path / "new" / "speed.json"
    ids = ["Explore/RiverSwim-v0", "Explore/DeepSea-v0"]
    arguments = ["throughput.py", "--ids", *ids, "--batch-sizes", "1", "4", *SHORT, "--no-copy", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    content = json.loads(out.read_text())["ids"]
    assert [(row["id"], row["num_envs"]) for row in content["rows"]] == [(env_id, n) for env_id in ids for n in (1, 4)]
    for row in content["rows"]:
        assert 100 < row["steps_per_second_min"] <= row["steps_per_second"] <= row["steps_per_second_max"]
    assert content["settings"] == {"seconds": 0.01, "rounds": 2, "copy": False, "num_threads": 1}
    assert content["machine"]["versions"]["gymnasium"] == gym.__version__
    assert content["machine"]["cores"] == os.cpu_count()
    assert content["command"].startswith("python throughput.py --ids Explore/RiverSwim-v0")
    assert "Explore/DeepSea-v0" in capsys.readouterr().out


def test_a_killed_run_keeps_its_rows(tmp_path):
    out = tmp_path / "speed.json"
    command = [sys.executable, throughput.__file__, "--ids", "Explore/RiverSwim-v0", "--batch-sizes", *["2"] * 1000]
    process = subprocess.Popen([*command, *SHORT, "--out", str(out)], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not out.exists() or len(json.loads(out.read_text())["ids"]["rows"]) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    rows = json.loads(out.read_text())["ids"]["rows"]
    assert 2 <= len(rows) < 1000
    assert {row["id"] for row in rows} == {"Explore/RiverSwim-v0"}


def test_a_missing_peer_is_a_row_and_no_failure(monkeypatch, capsys, tmp_path):
    def absent():
        raise ModuleNotFoundError("No module named 'rival'")

    peer = lambda: single(gym.make("CartPole-v1"))
    comparisons = (("Explore/RiverSwim-v0", 8, "rival", absent, 2.0), ("Explore/RiverSwim-v0", 8, "CartPole", peer, None))
    monkeypatch.setattr(throughput, "COMPARISONS", comparisons)
    report = run(Args(compare=True, seconds=0.01, rounds=2))
    missing, measured = report.rows("compare")
    assert (missing["peer"], missing["missing"]) == ("rival", "No module named 'rival'")
    assert measured["ratio_min"] <= measured["ratio"] <= measured["ratio_max"]
    assert measured["peer_num_envs"] == 1
    assert not report.rows("ids")
    printed = capsys.readouterr().out
    assert "missing" in printed
    assert "CartPole" in printed


def test_a_part_takes_its_place_in_the_file_and_leaves_the_others(monkeypatch, tmp_path):
    out = tmp_path / "speed.json"
    out.write_text(json.dumps({"train": {"rows": [1]}, "ids": {"rows": [2]}}))
    run(Args(ids=("Explore/RiverSwim-v0",), batch_sizes=(2,), seconds=0.01, rounds=1, out=out))
    content = json.loads(out.read_text())
    assert content["train"] == {"rows": [1]}
    assert [row["id"] for row in content["ids"]["rows"]] == ["Explore/RiverSwim-v0"]


def test_envpool_is_measured_on_the_tasks_of_the_same_name(monkeypatch):
    pytest.importorskip("envpool")
    names = throughput.shared_tasks()
    assert {"FourRooms-v0", "DoorKey-5x5-v0", "KeyCorridorS3R1-v0"} <= set(names)
    monkeypatch.setattr(throughput, "BATCH", 8)
    monkeypatch.setattr(throughput, "shared_tasks", lambda: ["FourRooms-v0"])
    (row,) = run(Args(envpool=True, seconds=0.01, rounds=1)).rows("envpool")
    assert (row["id"], row["peer"], row["goal"]) == ("Explore/FourRooms-v0", "EnvPool", 15.0)
    assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])


def test_tasks_of_xland_are_told_in_the_words_of_their_drawing():
    """What the peer gets of three tasks, against the sentences in the pictures of the same three."""
    envs = gym.make_vec("Explore/XLand-v0", num_envs=3)
    envs.reset(seed=0)
    say = lambda tile: f"{tile[1]} {tile[0]}"

    def sentence(condition, *tiles):
        if condition == "tile_near":
            return f"{say(tiles[0])} near {say(tiles[1])}"
        return f"{condition} {say(tiles[0])}"

    for task, state in zip(throughput.xland_tasks(3), map(Record, envs.get_state())):
        assert sentence(*task["goal"]) == goal_lines(state)[0].removeprefix("me ")
        rules = [f"{sentence(*rule[:-1])} -> {say(rule[-1])}" for rule in task["rules"]]
        assert rules == [line.removeprefix("agent ").replace("-> nothing", "-> black floor") for line in rule_lines(state)]
        assert [say(tile) for tile in task["objects"]] == [tile_name(code) for code in state.objects[: state.num_objects]]
    assert any(task["rules"] for task in throughput.xland_tasks(3))


PEER = """
import json, sys
task = json.loads(sys.stdin.readline())
xland = isinstance(task, list)
assert {"goal", "rules", "objects"} == set(task[0]) if xland else task == {"size": 8, "num_envs": 8}
print(json.dumps({"xminigrid" if xland else "gymnax": "1.2", "jax": "3.4"}), flush=True)
for line in sys.stdin:
    print((1000 if xland else 10) * float(line), flush=True)
"""


@pytest.fixture
def peer(monkeypatch, tmp_path):
    """Peers that answer 1000 and 10 steps/s for each second asked for."""
    monkeypatch.setattr(throughput, "BATCH", 8)
    for name in ("XLAND_MINIGRID", "GYMNAX"):
        monkeypatch.setattr(throughput, name, tmp_path / "peer.py")
    (tmp_path / "peer.py").write_text(PEER)
    for package in ("jax", "xminigrid", "gymnax"):
        (tmp_path / f"{package}.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_peers_in_jax_are_asked_in_processes_of_their_own_and_agents_are_counted(peer):
    report = run(Args(jax=True, peer_python=sys.executable, seconds=0.01, rounds=2))
    rows = {row["peer"]: row for row in report.rows("jax")}
    assert {name: row["theirs"] for name, row in rows.items()} == {
        "XLand-MiniGrid (xminigrid 1.2, jax 3.4)": 1000 * 0.01,
        "gymnax (gymnax 1.2, jax 3.4)": 10 * 0.01,
    }
    for row in rows.values():
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
    (row,) = report.rows("agents")
    assert (row["id"], row["kwargs"], row["num_envs"], row["agents"]) == ("Explore/XLand-Games-v0", {"size": 13}, 8, 2)
    assert 0 < row["steps_per_second_min"] <= row["steps_per_second"] <= row["steps_per_second_max"]


def test_a_peer_that_is_missing_or_breaks_down_is_told_by_name(peer):
    (peer / "jax.py").write_text("raise ModuleNotFoundError(\"No module named 'jax'\")")
    rows = run(Args(jax=True, seconds=0.01, rounds=1)).rows("jax")
    missing = [(row["peer"], row["missing"]) for row in rows]
    assert missing == [("XLand-MiniGrid", "No module named 'jax'"), ("gymnax", "No module named 'jax'")]
    (peer / "jax.py").write_text("")
    (peer / "peer.py").write_text("raise SystemExit(3)")
    with pytest.raises(RuntimeError, match=r"peer\.py ended with exit code 3"):
        throughput.JaxPeer("peer", throughput.GYMNAX, "gymnax", sys.executable, {})


@pytest.mark.parametrize(("name", "peer"), [comparison[2:4] for comparison in throughput.COMPARISONS])
def test_every_peer_steps(name, peer, monkeypatch):
    monkeypatch.setattr(throughput, "BATCH", 8)
    monkeypatch.setattr(throughput, "SYNC_BATCH", 2)
    try:
        contestant = peer()
    except ImportError as error:
        pytest.skip(str(error))
    assert contestant.measure(0.0) > 0.0
    assert contestant.num_envs == {"Minigrid, single": 1, "EnvPool": 8, "C loop": 8, "C loop that keeps the view": 8}.get(
        name, 2
    )


@pytest.mark.slow
def test_training_is_compared_with_start_up_left_out(monkeypatch):
    pytest.importorskip("stable_baselines3")
    small = dict(throughput.SMALL, num_steps=64, num_minibatches=8)
    monkeypatch.setattr(throughput, "TRAININGS", [("CartPole-v1", {}, small, (5.0, 3.0))])
    runs = []
    monkeypatch.setattr(throughput, "run_training", lambda *call: runs.append(call) or run_training(*call))
    eager, compiled, missing = run(Args(train=True, train_steps=3 * 8 * 64, rounds=1)).rows("train")
    assert [(call[0].__name__, call[1].get("compile", False)) for call in runs] == [
        ("train_ours", False),
        ("train_theirs", False),
        ("train_ours", True),
    ]
    for row in (eager, compiled):
        assert row["ratio"] == pytest.approx(row["ours"] / row["theirs"])
        assert row["ours"] > 100
        assert row["theirs"] > 100
        assert row["wall_ratio"] > 0.0
        for score in ("our_return", "their_return"):
            assert 8 < row[score] < 500  # CartPole: at least 8 steps until the pole falls
    assert (eager["goal"], compiled["goal"]) == (None, 5.0)
    assert compiled["our_start_up"][0] > eager["our_start_up"][0]  # it compiles
    assert (missing["peer"], missing["missing"]) == ("CleanRL", "--cleanrl names no ppo.py")


@pytest.mark.slow
def test_settings_of_training_are_measured_in_turns(monkeypatch):
    monkeypatch.setattr(throughput, "SETTINGS", ((4, False, 1), (8, False, 2)))
    runs = []
    monkeypatch.setattr(throughput, "run_training", lambda *call: runs.append(call[1]) or run_training(*call))
    rows = run(Args(settings=True, train_steps=1024, rounds=2)).rows("settings")
    assert [(call["num_envs"], call["threads"], call["seed"]) for call in runs] == [(4, 1, 1), (8, 2, 1), (4, 1, 2), (8, 2, 2)]
    assert [(row["num_envs"], row["minibatch"], row["threads"], row["compile"]) for row in rows] == [
        (4, 128, 1, False),
        (8, 256, 2, False),
    ]
    assert all(row["steps_per_second_max"] >= row["steps_per_second"] > 0 for row in rows)


SCRIPT = """
import os, sys, time, gymnasium as gym
assert os.environ["OMP_NUM_THREADS"] == "2"
flags = dict(flag.split("=") for flag in sys.argv[3:] if "=" in flag)
assert sys.argv[1:3] == ["--env-id", "Yardstick-v0"] and "--no-cuda" in sys.argv and "--no-anneal-lr" in sys.argv
envs = gym.vector.SyncVectorEnv([lambda: gym.make(sys.argv[2])] * int(flags["--num-envs"]))
assert envs.single_observation_space.shape == (147,) and float(flags["--learning-rate"]) == 3e-4
for _ in range(int(flags["--total-timesteps"]) // (8 * 2048)):
    time.sleep(0.2)
    print("global_step=8", "SPS: 9", sep=chr(10))
"""


def test_their_script_runs_as_it_is_and_tells_its_speed(tmp_path):
    script = tmp_path / "ppo.py"
    script.write_text(SCRIPT)
    settings = dict(throughput.SMALL, env="Explore/FourRooms-v0", env_kwargs='{"observation": "image"}', seed=1, threads=2)
    found = throughput.run_cleanrl({**settings, "total_timesteps": 5 * 8 * 2048}, script)
    assert 0 < found["steps_per_second"] < 8 * 2048 / 0.19
    assert found["start_up"] > 0 and found["episode_return"] is None
    script.write_text("raise SystemExit(3)")
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        throughput.run_cleanrl({**settings, "total_timesteps": 8}, script)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ids", "Explore/Nowhere-v0"], "ids must be among Explore/MetaBandit-v0, "),
        (["--batch-sizes", "0"], "batch_sizes must be positive, got 0"),
        (["--peer-python", "no/python"], "peer_python must be an interpreter, got 'no/python'"),
        (["--cleanrl", "no/ppo.py"], "cleanrl must be their file ppo.py, got 'no/ppo.py'"),
        (["--rounds", "0"], "rounds must be positive, got 0"),
        (["--seconds", "-1"], "seconds must be positive, got -1.0"),
    ],
)
def test_bad_arguments_end_with_one_line_that_names_them(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(sys, "argv", ["throughput.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
