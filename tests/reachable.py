"""What an object holds on to, as far as the garbage collector sees."""

from __future__ import annotations

import gc
from types import FunctionType, ModuleType


def find_texts(owner: object) -> list[str]:
    """Every string and, decoded, every bytes object that can be reached from `owner`.

    Code (types, functions, modules) is not looked into: what it reaches is the whole program.
    """
    seen: dict[int, object] = {}
    found: list[str] = []
    waiting = [owner]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | FunctionType | ModuleType):
            continue
        seen[id(thing)] = thing
        if isinstance(thing, str):
            found.append(thing)
        elif isinstance(thing, bytes | bytearray):
            found.append(thing.decode("utf-8", "replace"))
        else:
            waiting += gc.get_referents(thing)
            waiting += list(vars(thing).values()) if hasattr(thing, "__dict__") else []
    return found
