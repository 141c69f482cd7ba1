"""XLand-MiniGrid in a process of its own, with its own interpreter, on one thread: a peer of scripts/throughput.py.

The first line on the standard input is a JSON object with the tasks: for each its goal [condition, tile, ...], its rules
[condition, tile, ..., product] and objects [tile, ...], a tile being [kind, colour]. Each further line is a number of seconds,
and is answered by the steps/s of one batch, a world for each task, over that time. The first answer is JSON with the versions.
"""

import json
import sys

from jax_answers import answer  # first: it says how JAX is to start

# isort: split
import jax
import numpy as np
import xminigrid
from xminigrid.core.constants import Colors, Tiles
from xminigrid.core.goals import EmptyGoal
from xminigrid.core.rules import EmptyRule
from xminigrid.types import RuleSet
from xminigrid.wrappers import DmEnvAutoResetWrapper

CONDITIONS = ("hold", "near", "tile_near")
GOALS, RULES = (1, 3, 4), (1, 2, 3)  # their numbers of those


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
    chunk = params.max_steps + 1  # calls, as ours: a whole episode, so that each chunk has its share of resets
    answer("xminigrid", lambda timestep, action: step(params, timestep, action), timestep, 6, len(tasks), chunk)


main()
