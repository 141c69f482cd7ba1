"""Kernels and loops: what turns functions over one record into compiled functions over a batch of records.

A kernel is a plain function of `params`, `state` and what it reads or writes; `kernel` compiles it. `Loops` fills an
environment's kernels into the templates below. The compiled loops are cached on disk beside the environment's file (or
in the user's cache directory if that is read-only) under a digest of every source that they are made of.
"""

import dis
import functools
import hashlib
import inspect
import pathlib
import re
import types

import numpy as np
from numba import config, njit, prange, typeof
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import rtsys

NEXT_STEP, SAME_STEP, DISABLED = 0, 1, 2
CACHED_VARIANTS = 64  # of each loop (versions of its code, sizes, threads) that are kept on disk
COMPILED: dict = {}  # (module, name) of a loop -> numba's compile result, in this process
FRESH: dict = {}  # (module, digest) -> the kernels, as the loops of that digest call them

kernel = njit(nogil=True)  # not cached by itself: numba would not see an edit in another file


def state_dtype(**fields):
    """The dtype of a state record: the given fields (a type or (type, shape) each) beside the engine's own.

    The engine adds `rng` (uint64, the random word), `t` (int32, steps taken in the episode) and `done` (bool). A bool field
    `stale`, for states that keep something computed from other fields, is set whenever fields are assigned by name.
    """
    reserved = {"rng", "t", "done"} & fields.keys()
    if reserved:
        raise ValueError(f"the engine keeps the state fields rng, t and done itself, got {sorted(reserved)}")
    typed = [(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in fields.items()]
    for name, kind, *shape in typed:
        if shape and np.dtype(kind) == np.bool_:
            raise ValueError(f"numba has no arrays of bool in records: make the state field {name!r} uint8")
    return np.dtype([("rng", np.uint64), *typed, ("t", np.int32), ("done", np.bool_)], align=True)


def record_of(values):
    """A one-element structured array: ints become int64, floats float64, arrays sub-arrays (of uint8 for bool)."""
    arrays = {key: np.asarray(value) for key, value in values.items()}
    arrays = {k: a.astype(np.int64) if a.ndim == 0 and a.dtype.kind in "iu" else a for k, a in arrays.items()}
    arrays = {k: a.astype(np.uint8) if a.ndim > 0 and a.dtype == np.bool_ else a for k, a in arrays.items()}
    record = np.zeros(1, np.dtype([(key, a.dtype, a.shape) for key, a in arrays.items()], align=True))
    for key, a in arrays.items():
        record[key] = a
    return record


@kernel
def no_info(params, state, info):
    """Stands for `inform` in an environment without metrics."""


# Templates. `reset`, `step`, `observe` and `inform` are the environment's, filled in as globals by `Loops`.
# A record can't be an argument of a parallel loop, so params is a one-element array that is indexed inside.


def reset_batch(params, state, mask, obs, info):
    """Start a new episode where mask is True; observe every lane."""
    for i in prange(state.shape[0]):
        p = params[0]
        s = state[i]
        if mask[i]:
            s.t = 0
            s.done = False
            reset(p, s)  # noqa: F821
        observe(p, s, obs[i])  # noqa: F821
        inform(p, s, info[i])  # noqa: F821


def step_batch(mode, params, state, action, flat, low, high, obs, reward, terminated, truncated, info):
    """Step every lane. Returns -1, or the first lane whose action lies outside [low, high]: then nothing has changed."""
    for i in range(state.shape[0]):
        for j in range(low.shape[0]):
            if not (low[j] <= flat[i * low.shape[0] + j] <= high[j]):  # also true of NaN
                return i
    for i in prange(state.shape[0]):
        p = params[0]
        s = state[i]
        if mode == NEXT_STEP and s.done:
            s.t = 0
            s.done = False
            reset(p, s)  # noqa: F821
            reward[i] = 0.0
            terminated[i] = False
            truncated[i] = False
        else:
            s.t += 1
            r, end = step(p, s, action[i])  # noqa: F821
            out_of_time = p.time_limit > 0 and s.t >= p.time_limit
            reward[i] = r
            terminated[i] = end
            truncated[i] = out_of_time
            s.done = end or out_of_time
        observe(p, s, obs[i])  # noqa: F821
        inform(p, s, info[i])  # noqa: F821
    return -1


def reset_done(params, state, obs, info):
    """Start a new episode in the lanes that are done, and observe them."""
    for i in prange(state.shape[0]):
        p = params[0]
        s = state[i]
        if s.done:
            s.t = 0
            s.done = False
            reset(p, s)  # noqa: F821
            observe(p, s, obs[i])  # noqa: F821
            inform(p, s, info[i])  # noqa: F821


def step_one(params, state, action, obs, info):
    """Step the only lane. Returns reward, terminated, truncated."""
    p = params[0]
    s = state[0]
    s.t += 1
    reward, end = step(p, s, action)  # noqa: F821
    out_of_time = p.time_limit > 0 and s.t >= p.time_limit
    s.done = end or out_of_time
    observe(p, s, obs[0])  # noqa: F821
    inform(p, s, info[0])  # noqa: F821
    return 0.0 + reward, bool(end), bool(out_of_time)


TEMPLATES = {f.__name__: f for f in (reset_batch, reset_done, step_batch, step_one)}


class Loops:
    """The compiled loops of one environment.

    Args:
        dynamics: its kernels (reset, step, observe) or (reset, step, observe, inform).
        layout: whatever tells the types of the kernels' arguments apart, the dtypes of records and buffers.
        name: the class's name; module: the name of the module it lives in.
    """

    def __init__(self, dynamics, layout, name, module):
        names = ("reset", "step", "observe", "inform")
        self.kernels = dict(zip(names, (*dynamics, no_info)[:4], strict=True))
        self.name, self.module = name, module
        self.digest = source_digest(*self.kernels.values(), extra=(config.BOUNDSCHECK, layout))

    def get(self, template, args, parallel=False):
        """The template's function for arguments of these types; compiled, or loaded from disk, at its first use."""
        if config.DISABLE_JIT:
            return self._plain(template)
        signature = tuple(typeof(a) for a in args)
        digest = source_digest(TEMPLATES[template], extra=(self.digest, parallel, str(signature)))
        key = self.module, f"{template}_{self.name}_{digest}"
        if key not in COMPILED:
            COMPILED[key] = load_or_compile(self._specialise(template, key[1], parallel), signature)
        # The entry point skips the dispatcher's look-up of types, half the cost of a call: callers keep the types fixed.
        return COMPILED[key].entry_point

    def functions(self, compiled):
        """The loops by name, as kernels for GPU kernels to call, or as functions in plain Python."""
        done = {}
        plain = lambda f: rebuild(f, lambda original, copy: copy, done)
        scope = self._fresh_kernels() if compiled else {key: plain(f) for key, f in self.kernels.items()}
        loops = {t: self._bind(t, {**scope, "prange": range}) for t in ("reset_batch", "reset_done", "step_batch")}
        return {t: kernel(f) for t, f in loops.items()} if compiled else loops

    def cache_path(self):
        """The file that numba keeps this environment's cache beside, and the cache's folder; None where nothing can be kept."""
        file = pathlib.Path(inspect.getfile(self.kernels["step"].py_func))
        if not file.exists():
            return None
        function = self._bind("step_one", {"__name__": self.module}, co_filename=str(file))
        return file, pathlib.Path(njit(cache=True)(function).stats.cache_path)

    def _plain(self, template):
        function = self._bind(template, self.kernels)

        def call(*args):
            with np.errstate(over="ignore"):  # the random stream's arithmetic wraps by design
                return function(*(Records(a) if getattr(a, "dtype", np.dtype(int)).names else a for a in args))

        return call

    def _bind(self, template, scope, **code):
        source = TEMPLATES[template]
        return types.FunctionType(source.__code__.replace(**code), {**source.__globals__, **scope}, template)

    def _specialise(self, template, name, parallel):
        """A fresh function for this environment and these types: numba keeps its cache beside the environment's file."""
        file = inspect.getfile(self.kernels["step"].py_func)
        function = self._bind(template, {**self._fresh_kernels(), "__name__": self.module}, co_filename=file)
        function.__module__ = self.module  # must be importable, or unpickling the cache fails
        function.__qualname__ = name
        return njit(cache=pathlib.Path(file).exists(), parallel=parallel, nogil=True)(function)

    def _fresh_kernels(self):
        """Copies of the kernels with the digest in their names.

        numba names compiled functions after counters that differ from process to process. One that comes from the cache
        would otherwise be linked to a kernel of the same name that this process has compiled for records of another size.
        """

        def wrap(original, copy):
            copy.__qualname__ = f"{original.__qualname__}_{self.digest}"
            return kernel(copy)

        if (self.module, self.digest) not in FRESH:
            done = {}
            FRESH[self.module, self.digest] = {key: rebuild(f, wrap, done) for key, f in self.kernels.items()}
        return FRESH[self.module, self.digest]


def is_kernel(value):
    """Whether a global of a kernel is another kernel."""
    return isinstance(value, Dispatcher) or (bool(config.DISABLE_JIT) and isinstance(value, types.FunctionType))


def rebuild(function, wrap, done):
    """A copy of a kernel that calls copies of the kernels it calls; each is what `wrap(original, copy)` makes of it."""
    original = getattr(function, "py_func", function)
    if original not in done:
        scope, cells = dict(original.__globals__), original.__closure__ or ()
        closure = tuple(types.CellType(cell.cell_contents) for cell in cells)
        copy = types.FunctionType(original.__code__, scope, original.__name__, original.__defaults__, closure)
        for name in global_names(original.__code__):
            if is_kernel(scope.get(name)):
                scope[name] = rebuild(scope[name], wrap, done)
        for cell in closure:
            if is_kernel(cell.cell_contents):
                cell.cell_contents = rebuild(cell.cell_contents, wrap, done)
        done[original] = wrap(original, copy)
    return done[original]


class Record:
    """A record with its fields as attributes, for kernels in plain Python and for drawings."""

    __slots__ = ("_record",)

    def __init__(self, record):
        object.__setattr__(self, "_record", record)

    def __getattr__(self, name):
        return self._record[name]

    def __setattr__(self, name, value):
        self._record[name] = value


class Records:
    """An array of records, indexed like the array itself."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __getitem__(self, index):
        part = self.array[index]
        return Records(part) if isinstance(index, slice) else Record(part)


def load_or_compile(dispatcher, signature):
    """The compile result of a loop, from the cache on disk if it is there.

    numba's own look-up first sets up all that a compilation would need, 0.4 s in each process; a finished loop only needs
    numba's runtime.
    """
    result = None
    if dispatcher.stats.cache_path is not None:
        rtsys.initialize(dispatcher.targetctx)
        result = dispatcher._cache._load_overload(signature, dispatcher.targetctx)
    if result is None:
        dispatcher.compile(signature)
        result = dispatcher.overloads[signature]
        if dispatcher.stats.cache_path is not None:
            prune(dispatcher)
    return result


def source_digest(*functions, extra=()):
    """Sixteen hex digits that change with the code of these functions, of all that they call, and of the constants they use."""
    digest, seen, pending = hashlib.sha1(repr(extra).encode()), set(), list(functions)
    while pending:
        function = pending.pop()
        function = function.py_func if isinstance(function, Dispatcher) else function
        if function in seen:
            continue
        seen.add(function)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        scope = {**function.__globals__, **{name: cell.cell_contents for name, cell in cells}}
        for code in nested_codes(function.__code__):
            constants = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
            digest.update(code.co_code + repr((constants, code.co_names, code.co_varnames)).encode())
            for name in (*global_names(code), *code.co_freevars):
                value = scope.get(name)
                if isinstance(value, (Dispatcher, types.FunctionType)):
                    pending.append(value)
                elif isinstance(value, np.ndarray):
                    digest.update(f"{name}={value.dtype}{value.shape}".encode() + value.tobytes())
                elif isinstance(value, types.ModuleType) and value.__name__.partition(".")[0] not in ("numpy", "math"):
                    digest.update(pathlib.Path(value.__file__).read_bytes())
                else:
                    digest.update(f"{name}={value!r}".encode())
    return digest.hexdigest()[:16]


@functools.cache
def global_names(code):
    """The global names that a code object and those nested in it read, sorted."""
    instructions = (i for c in nested_codes(code) for i in dis.get_instructions(c))
    return sorted({i.argval for i in instructions if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")})


def nested_codes(code):
    """A code object and those defined within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from nested_codes(constant)


def prune(dispatcher):
    """Delete from the cache what exceeds the newest variants of this loop."""
    function = dispatcher.py_func
    file, loop = pathlib.Path(inspect.getfile(function)), function.__qualname__.rpartition("_")[0]
    pattern = re.compile(rf"{re.escape(f'{file.stem}.{loop}')}_[0-9a-f]{{16}}-.*\.nbi")
    indices = [p for p in pathlib.Path(dispatcher.stats.cache_path).iterdir() if pattern.fullmatch(p.name)]
    for index in sorted(indices, key=lambda p: p.stat().st_mtime)[:-CACHED_VARIANTS]:
        for path in index.parent.glob(f"{index.stem}.*.nbc"):
            path.unlink(missing_ok=True)
        index.unlink(missing_ok=True)
