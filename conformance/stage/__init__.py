"""Where a daemon runs for a test: namespaces, a registry, roots and a configuration of its own, and a look at the host
before and after."""
