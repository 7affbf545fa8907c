"""A node: a registry, a daemon and a kubelet without an API server, each with everything of its own."""
