"""XLand-MiniGrid in a process of its own, with its own interpreter, on one thread: a peer of scripts/throughput.py.

The first line on the standard input is a JSON object with the tasks: for each its goal [condition, tile, ...], its rules
[condition, tile, ..., product] and objects [tile, ...], a tile being [kind, colour]. Each further line is a number of seconds,
and is answered by the steps/s of one batch, a world for each task, over that time. The first answer is JSON with the versions.
"""

import itertools
import json
import os
import sys
import time
from importlib.metadata import version

CONDITIONS = ("hold", "near", "tile_near")
GOALS, RULES = (1, 3, 4), (1, 2, 3)  # their numbers of those
NUM_ACTIONS = 64  # batches of actions sampled in advance, played in a cycle

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # JAX makes as many threads as there are cores
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import xminigrid  # noqa: E402
from xminigrid.core.constants import Colors, Tiles  # noqa: E402
from xminigrid.core.goals import EmptyGoal  # noqa: E402
from xminigrid.core.rules import EmptyRule  # noqa: E402
from xminigrid.types import RuleSet  # noqa: E402
from xminigrid.wrappers import DmEnvAutoResetWrapper  # noqa: E402


def row(numbers, condition, tiles, length):
    """A goal or a rule as they encode it."""
    encoded = [numbers[CONDITIONS.index(condition)], *(number for tile in tiles for number in code(tile))]
    return encoded + [0] * (length - len(encoded))


def code(tile):
    kind, color = tile
    return getattr(Tiles, kind.upper()), getattr(Colors, color.upper())


def rulesets(tasks):
    """Their form of the tasks; as many rules and objects for each as the longest has, the rest empty."""
    goal_length, rule_length = EmptyGoal().encode().size, EmptyRule().encode().size
    num_rules, num_objects = (max(1, *(len(task[key]) for task in tasks)) for key in ("rules", "objects"))
    goals = np.array([row(GOALS, task["goal"][0], task["goal"][1:], goal_length) for task in tasks], np.uint8)
    rules = np.zeros((len(tasks), num_rules, rule_length), np.uint8)
    objects = np.zeros((len(tasks), num_objects, 2), np.uint8)
    for i, task in enumerate(tasks):
        for k, (condition, *tiles) in enumerate(task["rules"]):
            rules[i, k] = row(RULES, condition, tiles, rule_length)
        objects[i, : len(task["objects"])] = [code(tile) for tile in task["objects"]]
    return RuleSet(goal=jax.numpy.asarray(goals), rules=jax.numpy.asarray(rules), init_tiles=jax.numpy.asarray(objects))


def main():
    tasks = json.loads(sys.stdin.readline())
    env, params = xminigrid.make("XLand-MiniGrid-R1-9x9")
    env, params = DmEnvAutoResetWrapper(env), params.replace(ruleset=rulesets(tasks))
    axes = jax.tree_util.tree_map(lambda _: 0, params)  # a ruleset for each world
    step = jax.jit(jax.vmap(env.step, in_axes=(axes, 0, 0)))
    reset = jax.jit(jax.vmap(env.reset, in_axes=(axes, 0)))
    timestep = reset(params, jax.random.split(jax.random.key(0), len(tasks)))
    rng = np.random.default_rng(0)
    sampled = [jax.numpy.asarray(rng.integers(6, size=len(tasks))) for _ in range(NUM_ACTIONS)]
    actions = itertools.cycle(sampled)
    chunk = params.max_steps + 1  # calls, as ours: a whole episode, so that each chunk has its share of resets
    for action in itertools.islice(actions, 3):
        timestep = jax.block_until_ready(step(params, timestep, action))
    print(json.dumps({name: version(name) for name in ("xminigrid", "jax", "jaxlib")}), flush=True)
    for line in sys.stdin:
        seconds, calls, start = float(line), 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - start < seconds:
            for action in itertools.islice(actions, chunk):
                timestep = step(params, timestep, action)
            jax.block_until_ready(timestep)
            calls += chunk
        print(calls * len(tasks) / (time.perf_counter() - start), flush=True)


main()
