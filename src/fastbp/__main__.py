"""The command line: ``python -m fastbp demo``, ``bench`` or ``info``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import fastbp
from fastbp import bench, demo, runtime
from fastbp.extras import MissingExtraError
from fastbp.workloads import WORKLOADS, Workload, named

PICTURES = (".png", ".pdf", ".svg")


def number(text: str) -> int:
    """Read an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def thread_count(text: str) -> int:
    """Read an integer from 1 to 256."""
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"must be an integer from 1 to 256, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Read an integer from 0 to 2**64 - 1."""
    if not text.isdecimal() or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to 2**64 - 1, got {text!r}")
    return int(text)


def workload_list(text: str) -> tuple[Workload, ...]:
    """Read names of workloads with commas between."""
    try:
        return named(text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def output(text: str) -> Path:
    """Read the name of a file to write, in a folder that exists: to be told so before the work, not after it."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file in an existing folder, got {text!r}")
    return path


def picture(text: str) -> Path:
    """Read the name of a picture to write."""
    path = output(text)
    if path.suffix not in PICTURES:
        raise argparse.ArgumentTypeError(f"must end in {', '.join(PICTURES)}, got {text!r}")
    return path


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    about = "fastbp: multi-layer perceptrons, fast on CPUs"
    parser = argparse.ArgumentParser(prog="python -m fastbp", description=about)
    parser.add_argument("--version", action="version", version=f"fastbp {fastbp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    formatter = argparse.ArgumentDefaultsHelpFormatter

    about = "learn handwritten digits in a moment, beside the NumPy reference, and draw the loss curves"
    add = commands.add_parser("demo", help=about, description=about, formatter_class=formatter).add_argument
    add("--epochs", type=number, default=demo.EPOCHS, metavar="N", help="passes through the training images")
    add("--seed", type=seed, default=0, metavar="N", help="of the weights, the order of the images and the test part")
    add("--threads", type=thread_count, default=1, metavar="N", help="for fastbp and for NumPy's BLAS")
    add("--out", type=picture, default=Path("fastbp_demo.png"), metavar="FILE", help="the picture to write")

    about = "time a training step of nine networks, beside the NumPy reference and the peak of the CPU"
    names = ",".join(workload.name for workload in WORKLOADS)
    add = commands.add_parser("bench", help=about, description=about, formatter_class=formatter).add_argument
    add("--threads", type=thread_count, default=1, metavar="N", help="for fastbp and NumPy's BLAS; 1 pins to one core")
    add("--isa", choices=runtime.isa_names(), default=runtime.isa(), help="instruction set of fastbp")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of everything")
    add("--workloads", type=workload_list, default=names, metavar="A,B", help="some of the workloads; others as 64-100-10:32")
    add("--rounds", type=number, default=bench.Effort.rounds, metavar="N", help="at most so many per workload")
    add("--json", type=output, default=argparse.SUPPRESS, metavar="FILE", help="write all figures to this file, too")
    add("--quick", action="store_true", default=argparse.SUPPRESS, help="few and short rounds, for a first look")

    about = "show version, instruction sets, threads and platform, as a bug report needs them"
    commands.add_parser("info", help=about, description=about)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    try:
        runtime.isa()
    except ValueError as error:  # what FASTBP_ISA names
        return failure(error)
    asked = arguments().parse_args(argv)
    try:
        if asked.command == "demo":
            demo.run(epochs=asked.epochs, seed=asked.seed, threads=asked.threads, path=asked.out)
        elif asked.command == "bench":
            effort = bench.Effort(asked.rounds)
            bench.run(
                asked.workloads,
                threads=asked.threads,
                isa=asked.isa,
                dtype=asked.dtype,
                effort=effort.quick() if "quick" in asked else effort,
                json_file=getattr(asked, "json", None),
            )
        else:
            runtime.show_config()
    except MissingExtraError as error:
        return failure(error)
    except KeyboardInterrupt:
        return 130
    return 0


def failure(error: Exception) -> int:
    """Print what is wrong; return the exit code for it."""
    print(f"python -m fastbp: error: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
