"""Hand-written C loops of a few environments: what the compiled kernels are measured against, and checked against in tests."""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path


def load(name, *defines):
    """The library made of `<name>.c` beside this file by the C compiler, optimised for this machine; defines are macros.

    Raises:
        ValueError: there is no such file.
        ImportError: there is no C compiler.
    """
    source = Path(__file__).with_name(f"{name}.c")
    if not source.exists():
        raise ValueError(f"name must be one of {sorted(path.stem for path in source.parent.glob('*.c'))}, got {name!r}")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise ImportError("the C loops need a C compiler (gcc or cc) on the path")
    with tempfile.TemporaryDirectory() as folder:  # a library that is loaded may be deleted
        library = Path(folder) / f"{name}.so"
        options = ["-O3", "-march=native", "-std=gnu11", "-shared", "-fPIC"]
        options += [f"-D{define}" for define in defines]
        subprocess.run([compiler, *options, "-o", library, source, "-lm"], check=True)
        return ctypes.CDLL(str(library))
