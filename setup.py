"""The compiled part: C kernels and one Cython module; everything else is in pyproject.toml."""
import os
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup

# One wheel for every Python from 3.11 on; the stable ABI does not exist on free-threaded builds or other interpreters.
limited = sys.implementation.name == "cpython" and not sysconfig.get_config_var("Py_GIL_DISABLED")

flags = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-fno-strict-aliasing", "-g0", "-pthread"]
flags += os.environ.get("FASTBP_CFLAGS", "").split()

core = Extension(
    "fastbp._fastbp_core",
    sources=["src/fastbp/_fastbp_core.pyx", *sorted(glob("csrc/**/*.c", recursive=True))],
    depends=[*sorted(glob("csrc/**/*.h", recursive=True)), "src/fastbp/_window.pxi"],
    include_dirs=["csrc"],
    extra_compile_args=flags,
    extra_link_args=["-pthread", *os.environ.get("FASTBP_LDFLAGS", "").split()],
    define_macros=[("Py_LIMITED_API", "0x030B0000")] if limited else [],
    py_limited_api=limited,
)

setup(ext_modules=[core], options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited else {})
