"""Kept cells put together again, once a rush is over.

llama.cpp's attention passes over every cell up to the last one in use. What eight requests at once
leave behind may stand at the end of a cache that is empty otherwise, and each later token would pay
for all of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from models.context import Context
from models.prefixes import Node


def compact(context: Context, root: Node, kept: Mapping[int, Node], spare: int) -> bool:
    """Move the cells of every beginning below `root` to where llama.cpp puts new ones.

    That is the front of the cache, if little of it is in use. `kept` are the sequences that hold
    them, by where each ends; all tokens have cells, and `spare` has none. False where cells could
    not be had again: then what is kept is not whole.
    """
    nodes = [*root.children.values()]
    while nodes:
        node = nodes.pop()
        nodes += node.children.values()
        holders = [sequence for sequence, end in kept.items() if node in end.path()]
        context.copy_range(holders[0], spare, node.start, node.end)
        state = context.save(spare)
        context.drop(spare)
        for holder in holders:
            context.drop_range(holder, node.start, node.end)
        if not context.restore(spare, state):
            return False
        for holder in holders:
            context.copy_range(spare, holder, node.start, node.end)
        context.drop(spare)
    return True
