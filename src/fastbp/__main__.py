"""The command line: ``python -m fastbp demo``, ``bench`` or ``info``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import fastbp
from fastbp import bench, demo, runtime
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
    parser = argparse.ArgumentParser(prog="python -m fastbp", description=fastbp.__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"fastbp {fastbp.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    formatter = argparse.ArgumentDefaultsHelpFormatter

    about = "learn handwritten digits in a moment, beside the NumPy reference, and draw the loss curves"
    show = commands.add_parser("demo", help=about, description=about, formatter_class=formatter)
    show.add_argument("--epochs", type=number, default=demo.EPOCHS, metavar="N", help="passes through the training images")
    show.add_argument("--seed", type=seed, default=0, metavar="N", help="of the weights, the order and the test part")
    show.add_argument("--threads", type=thread_count, default=1, metavar="N", help="for fastbp and for NumPy's BLAS")
    show.add_argument("--out", type=picture, default=Path("fastbp_demo.png"), metavar="FILE", help="the picture to write")

    about = "time a training step of nine networks, beside the NumPy reference and the peak of the CPU"
    names = ", ".join(workload.name for workload in WORKLOADS)
    time = commands.add_parser("bench", help=about, description=about, formatter_class=formatter)
    time.add_argument(
        "--threads", type=thread_count, default=1, metavar="N", help="for fastbp and NumPy's BLAS; 1 also pins to one core"
    )
    time.add_argument("--isa", choices=runtime.isa_names(), help="instruction set; by default the best of this CPU, or FASTBP_ISA")
    time.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="of everything")
    time.add_argument(
        "--workloads", type=workload_list, default=WORKLOADS, metavar="A,B", help=f"some of {names}; by default all"
    )
    time.add_argument("--rounds", type=number, default=bench.Effort.rounds, metavar="N", help="at most so many per workload")
    time.add_argument("--json", type=output, metavar="FILE", help="write all figures to this file, too")
    time.add_argument("--quick", action="store_true", help="few and short rounds, for a first look")

    about = "show version, instruction sets, threads and platform, as a bug report needs them"
    commands.add_parser("info", help=about, description=about)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = arguments()
    asked = parser.parse_args(argv)
    try:
        runtime.isa()
    except ValueError as error:  # what FASTBP_ISA names
        parser.exit(2, f"{parser.prog}: error: {error}\n")
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
                effort=effort.quick() if asked.quick else effort,
                json_file=asked.json,
            )
        else:
            runtime.show_config()
    except demo.MissingExtraError as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
