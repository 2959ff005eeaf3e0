"""Objects whose settings are fixed once they are made."""

from __future__ import annotations

from typing import Any


class Fixed:
    """Public attributes that were set while it was made stay as they are: what was made from them would not change.

    Properties and views, which do change something, may be assigned as before, and so may names that it does not have.
    """

    _fixed = False

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; AttributeError for one that is fixed."""
        if self._fixed and not name.startswith("_") and name in self.__dict__:
            kind = type(self).__name__
            raise AttributeError(f"{name} of a {kind} cannot be changed once it is made, got {value!r}: make another {kind}")
        super().__setattr__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle it only before it is made: then its parameters are views of memory that a copy would not share."""
        if self._fixed:
            kind = type(self).__name__
            remedy = f"make another {kind} and assign its params and state"
            raise TypeError(f"a {kind} that is made cannot be copied or pickled: {remedy}")
        return super().__reduce_ex__(protocol)
