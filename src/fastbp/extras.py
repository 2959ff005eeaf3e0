"""Optional packages: imported when they are needed, named when they are missing."""

from __future__ import annotations

import importlib
from typing import Any

PACKAGES = {"sklearn": "scikit-learn"}  # modules whose package has another name


class MissingExtraError(ImportError):
    """An optional package is not installed; the message says which one and how to get it."""


def extra(module: str, what: str, group: str) -> Any:
    """Import an optional module that `what` needs and the extra `group` brings.

    Raises
    ------
    MissingExtraError
        If its package is not installed.

    Examples
    --------
    >>> from fastbp.extras import extra
    >>> extra("json", "this example", "none").loads("[1]")
    [1]
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        name = PACKAGES.get(package, package)
        raise MissingExtraError(f'{what} needs {name}: pip install "fastbp[{group}]"', name=package) from error
