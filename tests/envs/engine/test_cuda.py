"""Every environment's kernels compile for NVIDIA GPUs, which needs no GPU: they allocate nothing and use no Python objects."""

import gymnasium as gym
import numpy as np
import pytest

from explore_gym.envs import ENVIRONMENTS, NAMESPACE

cuda = pytest.importorskip("numba.cuda", reason="needs numba-cuda")
numba = pytest.importorskip("numba")


def lane_kernel(kernels):
    """One lane per thread: step, start again where done, observe. The kernels become device functions as they are."""
    reset, step, observe, inform = (kernels[name] for name in ("reset", "step", "observe", "inform"))

    def run(params, state, action, obs, reward, terminated, info):
        i = cuda.grid(1)
        if i >= state.shape[0]:
            return
        p = params[0]
        s = state[i]
        if s.done:
            reset(p, s)
            s.done = False
        else:
            r, end = step(p, s, action[i])
            reward[i] = r
            terminated[i] = end
            s.done = end
        observe(p, s, obs[i])
        inform(p, s, info[i])

    return run


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)], ids=["sm_80", "sm_90"])
@pytest.mark.parametrize("name", [name for name, (path, _) in ENVIRONMENTS.items() if not path.startswith("text.")])
def test_kernels_compile_to_ptx(name, capability, monkeypatch):
    from numba.cuda import dispatcher

    # Device functions ask for the current device's capability; nothing else of a device is needed.
    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(dispatcher, "get_current_device", device)
    env = gym.make(f"{NAMESPACE}/{name}").unwrapped
    action = np.zeros((4, *env.actions.shape), env.actions.dtype)
    arrays = (env.params, np.zeros(4, env.state_dtype), action, env.observations.empty(4), np.zeros(4), np.zeros(4, bool))
    signature = numba.void(*(numba.typeof(a) for a in (*arrays, env.metrics.empty(4))))
    ptx, _ = cuda.compile(lane_kernel(env.loops.kernels), signature, cc=capability, output="ptx")
    assert f".target sm_{capability[0]}{capability[1]}" in ptx
    assert "malloc" not in ptx
