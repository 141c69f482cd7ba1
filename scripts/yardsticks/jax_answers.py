"""What peers in JAX share: one thread, and the answers to scripts/throughput.py. To be imported before anything is computed."""

import itertools
import json
import os
import sys
import time
from importlib.metadata import version

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # JAX makes as many threads as there are cores
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np

NUM_ACTIONS = 64  # batches of actions sampled in advance, played in a cycle


def answer(package, step, state, num_actions, num_envs, chunk):
    """Prints the versions, and for each line of the standard input, a number of seconds, the steps/s over that time.

    step(state, actions) gives the next state of num_envs environments; the clock is read every `chunk` calls.
    """
    rng = np.random.default_rng(0)
    sampled = [jax.numpy.asarray(rng.integers(num_actions, size=num_envs)) for _ in range(NUM_ACTIONS)]
    actions = itertools.cycle(sampled)
    for action in itertools.islice(actions, 3):
        state = jax.block_until_ready(step(state, action))
    print(json.dumps({name: version(name) for name in (package, "jax", "jaxlib")}), flush=True)
    for line in sys.stdin:
        seconds, calls, start = float(line), 0, time.perf_counter()
        while calls == 0 or time.perf_counter() - start < seconds:
            for action in itertools.islice(actions, chunk):
                state = step(state, action)
            jax.block_until_ready(state)
            calls += chunk
        print(calls * num_envs / (time.perf_counter() - start), flush=True)
