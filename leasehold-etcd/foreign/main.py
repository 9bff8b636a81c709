"""Runs all parts. Arguments: the addresses of five servers with empty stores, the process id of the last, and a seed."""

import signal
import sys
import traceback

import aetcd_calls
import clusters
import coordination
import keys
import kills
import report


def attempt(run, *args):
    """Runs a part, whose exception is a failed check."""
    try:
        run(*args)
    except Exception:
        report.check(run.__module__, traceback.format_exc(), "no exception")


def main():
    # A shell starts background jobs with SIGINT ignored, and their children inherit that. Interrupted clients would not end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    first, second, third, fourth, fifth, process, seed = sys.argv[1:]
    attempt(keys.run, first)
    attempt(coordination.run, first, second)
    attempt(clusters.run, third)
    attempt(aetcd_calls.run, fourth)
    attempt(kills.run, fifth, int(process), int(seed))
    print(f"{report.passed} passed, {report.failed} failed")
    sys.exit(report.failed > 0 or report.passed == 0)


main()
