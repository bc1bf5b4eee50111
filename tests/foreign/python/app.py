"""A till in Python."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.till import Bill


class Till(exports.Till):
    def add_up(self, items):
        if not items:
            raise Err("nothing to add up")
        dearest = max(items, key=lambda item: item.price)
        return Bill(sum(item.price for item in items), [item.name for item in items], dearest)

    def fail(self, text):
        raise ValueError(text)
