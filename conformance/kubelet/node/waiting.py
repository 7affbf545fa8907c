"""Waiting for what a node does in its own time. Nothing here measures: a deadline only ends what would never come."""

import time

from stage.steps import expect

PERIOD = 0.2
DEADLINE = 90


def until(question, missing, deadline=DEADLINE):
    """Ask until the answer is true, and return it; else fail with what is missing, which may be a function that tells."""
    end = time.monotonic() + deadline
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            expect(False, f"not within {deadline} s: {missing() if callable(missing) else missing}")
        time.sleep(PERIOD)
