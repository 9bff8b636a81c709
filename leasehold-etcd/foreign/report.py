"""Counts checks and prints the failed ones."""

import re

passed = 0
failed = 0


def check(name, found, wanted):
    """Compares an answer with a value or, if `wanted` is a compiled pattern, matches all of it."""
    global passed, failed
    if isinstance(wanted, re.Pattern):
        is_right = isinstance(found, str) and wanted.fullmatch(found) is not None
        wanted = wanted.pattern
    else:
        is_right = found == wanted
    if is_right:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}\n  wanted: {wanted!r}\n  found:  {found!r}", flush=True)


def part(name):
    """Prints the count of a part since the previous part."""
    part.previous, count = passed + failed, passed + failed - part.previous
    print(f"{name}: {count} checks", flush=True)


part.previous = 0
