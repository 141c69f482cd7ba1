"""DeepSea of gymnax in a process of its own, with its own interpreter, on one thread: a peer of scripts/throughput.py.

The first line on the standard input is a JSON object with size and num_envs. Each further line is a number of seconds, and is
answered by the steps/s of one batch over that time. The first answer is JSON with the versions.
"""

import json
import sys

from jax_answers import answer  # first: it says how JAX is to start

# isort: split
import jax
from gymnax.environments.bsuite.deep_sea import DeepSea


def main():
    task = json.loads(sys.stdin.readline())
    num_envs, env = task["num_envs"], DeepSea(task["size"])
    params = env.default_params
    step_all, reset_all = (jax.vmap(f, in_axes=axes) for f, axes in ((env.step, (0, 0, 0, None)), (env.reset, (0, None))))

    @jax.jit
    def step(carry, actions):
        key, (_, state, *_) = carry
        key, used = jax.random.split(key)
        return key, step_all(jax.random.split(used, num_envs), state, actions, params)

    _, state = reset_all(jax.random.split(jax.random.key(0), num_envs), params)
    first = step_all(jax.random.split(jax.random.key(1), num_envs), state, jax.numpy.zeros(num_envs, int), params)
    answer("gymnax", step, (jax.random.key(2), first), 2, num_envs, task["size"])


main()
