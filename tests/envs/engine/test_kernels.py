"""The compile cache: found by the next process, never stale, bounded, and moved where it can be written."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from explore_gym.envs.engine import state_dtype
from explore_gym.envs.engine.kernels import record_of

MODULE = """
import numpy as np
from gymnasium import spaces
from explore_gym.envs.engine import KernelEnv, kernel, state_dtype
from rules import pay

@kernel
def reset(params, state):
    state.x = 0.0

@kernel
def step(params, state, action):
    state.x += 1.0
    return pay(state), False

@kernel
def observe(params, state, obs):
    obs[0] = state.x

class Counter(KernelEnv):
    dynamics = (reset, step, observe)

    def __init__(self):
        space = spaces.Box(0.0, np.inf, (1,), np.float64)
        super().__init__(state=state_dtype(x=np.float64), params={}, observation_space=space, action_space=spaces.Discrete(2))
"""
RULES = (
    "from explore_gym.envs.engine import kernel\nBONUS = {bonus}\n\n@kernel\ndef pay(state):\n    return state.x {sign} BONUS\n"
)
MAIN = """
from numba.core.dispatcher import Dispatcher
compiled = []
original = Dispatcher.compile
Dispatcher.compile = lambda self, signature: (compiled.append(self.py_func.__name__), original(self, signature))[1]
from counter import Counter
env = Counter()
env.reset(seed=0)
print(env.step(0)[1], [name for name in compiled if name in ("reset_batch", "step_one")])
"""


def run(folder, main=MAIN, **environment):
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    result = subprocess.run([sys.executable, "-c", main], cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    (tmp_path / "counter.py").write_text(MODULE)
    (tmp_path / "rules.py").write_text(RULES.format(bonus=10.0, sign="+"))
    return tmp_path


def test_the_second_process_compiles_nothing(folder):
    assert run(folder) == "11.0 ['reset_batch', 'step_one']"
    assert run(folder) == "11.0 []"


def test_an_edit_in_another_file_is_never_stale(folder):
    assert run(folder).startswith("11.0")
    (folder / "rules.py").write_text(RULES.format(bonus=10.0, sign="-"))
    assert run(folder) == "-9.0 ['reset_batch', 'step_one']"
    (folder / "rules.py").write_text(RULES.format(bonus=20.0, sign="-"))  # a constant
    assert run(folder) == "-19.0 ['reset_batch', 'step_one']"


def test_the_cache_is_bounded(folder):
    for bonus in range(4):
        (folder / "rules.py").write_text(RULES.format(bonus=float(bonus), sign="+"))
        run(folder, "import explore_gym.envs.engine.kernels as k; k.CACHED_VARIANTS = 2\n" + MAIN)
    for kind in ("nbi", "nbc"):
        assert len(list((folder / "__pycache__").glob(f"counter.step_one_Counter_*.{kind}"))) == 2


SIZES = """
import sys
import numpy as np
from gymnasium import spaces
from explore_gym.envs.engine import KernelEnv, kernel, state_dtype

@kernel
def fill(state):
    for i in range(state.cells.shape[0]):
        state.cells[i] = i + 1

@kernel
def reset(params, state):
    fill(state)

@kernel
def step(params, state, action):
    return 0.0, False

@kernel
def observe(params, state, obs):
    obs[0] = state.cells.sum()

class Row(KernelEnv):
    dynamics = (reset, step, observe)

    def __init__(self, size):
        space = spaces.Box(0.0, np.inf, (1,), np.float64)
        state = state_dtype(cells=(np.int64, (size,)))
        super().__init__(state=state, params={}, observation_space=space, action_space=spaces.Discrete(2))
"""


def test_sizes_compiled_in_different_processes_do_not_mix(folder):
    (folder / "row.py").write_text(SIZES)
    main = "from row import Row; print([float(Row(n).reset(seed=0)[0][0]) for n in ({})])"
    assert run(folder, main.format("5,")) == "[15.0]"
    assert run(folder, main.format("3, 5")) == "[6.0, 15.0]"
    assert run(folder, main.format("7, 3, 5")) == "[28.0, 6.0, 15.0]"


def test_a_read_only_install_caches_elsewhere(folder, tmp_path_factory):
    if os.geteuid() == 0:
        (folder / "__pycache__").write_text("a file where the folder would be")  # root may write anywhere
    else:
        folder.chmod(0o555)
    home = tmp_path_factory.mktemp("home")
    environment = {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    assert run(folder, **environment) == "11.0 ['reset_batch', 'step_one']"
    assert run(folder, **environment) == "11.0 []"
    assert list(pathlib.Path(home).rglob("counter.step_one_Counter_*.nbc"))


def test_plain_python_gives_the_same(folder):
    assert run(folder, NUMBA_DISABLE_JIT="1") == "11.0 []"


def test_state_dtype_keeps_its_own_fields():
    dtype = state_dtype(x=np.float64, grid=(np.uint16, (3, 2)))
    assert dtype.names == ("rng", "x", "grid", "t", "done") and dtype["grid"].shape == (3, 2)
    with pytest.raises(ValueError, match=r"itself, got \['t'\]"):
        state_dtype(t=np.int64)
    with pytest.raises(ValueError, match="make the state field 'seen' uint8"):
        state_dtype(seen=(bool, (4,)))


def test_params_have_the_kernels_types():
    record = record_of(dict(size=3, slip=0.5, on=True, table=np.ones((2, 2), np.float32), mask=np.array([True, False])))
    assert [record.dtype[name].base for name in record.dtype.names] == [np.int64, np.float64, np.bool_, np.float32, np.uint8]
    assert record["table"].shape == (1, 2, 2) and record["mask"].tolist() == [[1, 0]]
