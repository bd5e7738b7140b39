"""Names of C++ functions as people write them: CUPTI gives those of the linker."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_LIBRARY = "libstdc++.so.6"


@cache
def demangled(name: str) -> str:
    """Return the readable name; the given one where it is none of C++'s, or the library is not here."""
    demangle = _function() if name.startswith("_Z") else None
    if demangle is None:
        return name
    status = ctypes.c_int()
    found = demangle(name.encode(), None, None, ctypes.byref(status))
    if not found or status.value != 0:
        return name
    try:
        return ctypes.string_at(found).decode("utf-8", errors="replace")
    finally:
        _free(found)


@cache
def _function() -> Any:  # noqa: ANN401 - a foreign function
    try:
        demangle = ctypes.CDLL(_LIBRARY).__cxa_demangle
    except (OSError, AttributeError):
        return None
    demangle.restype = ctypes.c_void_p
    demangle.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))
    return demangle


def _free(address: int) -> None:
    release = ctypes.CDLL(None).free
    release.argtypes = (ctypes.c_void_p,)
    release.restype = None
    release(address)
