"""What scenarios have in common."""

import re


class Scenario:
    """One promise. Its first line of documentation says which; the pods of several scenarios come up together."""

    def __init__(self, node):
        self.node = node

    @classmethod
    def title(cls):
        """The name by which it is called."""
        return re.sub("(?<!^)([A-Z])", r"-\1", cls.__name__).lower()

    def pods(self):
        """What is put before any check of the same group."""
        return []

    def check(self):
        """Fail with AssertionError if something is not as it must be."""
        raise NotImplementedError
