"""The demo and the command line around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastbp import __main__ as program
from fastbp import demo, extras

PNG = b"\x89PNG\r\n\x1a\n"


def need_the_extra() -> None:
    for module in demo.MODULES:
        pytest.importorskip(module)


def test_demo_learns_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need_the_extra()
    path = tmp_path / "curves.png"
    lines: list[str] = []
    own, other = demo.run(epochs=15, path=path, out=lines.append)
    assert own.accuracy >= 0.97
    assert other.accuracy >= 0.97
    assert len(own.history) == len(other.history) == len(own.history.val_accuracy) == 15
    assert own.epoch_seconds > 0
    assert path.read_bytes().startswith(PNG)
    text = "\n".join(lines)
    for part in (
        "test accuracy",
        "ms per epoch",
        "ratio",
        "largest difference of the two loss curves",
        "1 thread",
        str(path),
    ):
        assert part in text
    progress = capsys.readouterr().err
    assert "fastbp" in progress
    assert "reference" in progress
    assert "15/15" in progress


def test_demo_from_the_command_line(tmp_path: Path) -> None:
    need_the_extra()
    path = tmp_path / "one.svg"
    command = [
        sys.executable,
        "-m",
        "fastbp",
        "demo",
        "--epochs",
        "1",
        "--seed",
        "3",
        "--threads",
        "2",
        "--out",
        str(path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 epoch, seed 3" in done.stdout
    assert path.stat().st_size > 0


@pytest.mark.parametrize("module", demo.MODULES)
def test_missing_extra_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for present in demo.MODULES:  # whatever this machine has: all but one can be imported
        monkeypatch.setitem(sys.modules, present, sys)
    monkeypatch.setitem(sys.modules, module, None)  # as Python does it: importing it raises ModuleNotFoundError
    assert program.main(["demo", "--out", str(tmp_path / "never.png")]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert f'the demo needs {extras.PACKAGES.get(module, module)}: pip install "fastbp[demo]"' in written.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["demo", "--epochs", "0"], "must be an integer of at least 1, got '0'"),
        (["demo", "--seed", "-1"], "must be an integer from 0 to 2**64 - 1, got '-1'"),
        (["demo", "--threads", "257"], "must be an integer from 1 to 256, got '257'"),
        (["demo", "--out", "curves.doc"], "must end in .png, .pdf, .svg, got 'curves.doc'"),
        (["demo", "--out", "no/such/folder/curves.png"], "must be a file in an existing folder"),
        ([], "COMMAND"),
    ],
)
def test_wrong_arguments(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        program.main(words)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["demo", "--help"], ["bench", "--help"], ["info", "--help"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        program.main(words)
    assert stopped.value.code == 0
    assert "usage: python -m fastbp" in capsys.readouterr().out


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["info"]) == 0
    assert "fma peak" in capsys.readouterr().out
