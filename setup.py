"""The compiled part: C kernels and one Cython module; everything else is in pyproject.toml."""
import os
import sys
import sysconfig
from glob import glob

import numpy
from setuptools import Extension, setup

# One wheel for every Python from 3.11 on; the stable ABI does not exist on free-threaded builds or other interpreters.
limited = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

# The bits of a result must not depend on what a compiler fuses: products and sums stay as written.
flags = ["-std=gnu11", "-O3", "-g0", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-fno-strict-aliasing"]
flags += ["-fvisibility=hidden"]
flags += os.environ.get("FASTBP_CFLAGS", "").split()

core = Extension(
    "fastbp._fastbp_core",
    sources=["src/fastbp/_fastbp_core.pyx", *sorted(glob("csrc/**/*.c", recursive=True))],
    depends=[*sorted(glob("csrc/**/*.h", recursive=True)), *sorted(glob("src/fastbp/*.pxi"))],
    include_dirs=["csrc", numpy.get_include()],
    extra_compile_args=flags,
    extra_link_args=["-pthread", *os.environ.get("FASTBP_LDFLAGS", "").split()],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if limited else [],
    py_limited_api=limited,
)

setup(ext_modules=[core], options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited else {})
