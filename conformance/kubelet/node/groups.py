"""Which scenarios run on which kubelet, and in which order."""

import dataclasses

from scenarios import (checkpoints, collection, ends, limits, logs, many, network, order, probes, pulls, resize, restarts, security, stats, streams,
                       volumes)


@dataclasses.dataclass(frozen=True)
class Group:
    """Scenarios whose pods come up together on a kubelet with these settings."""

    name: str
    scenarios: tuple
    gates: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)

    def apply(self, node):
        """Let the kubelet run with the settings of this group; pods are left alone."""
        settings = {**self.settings, "featureGates": self.gates}
        if node.kubelet.settings != settings:
            node.kubelet.stop()
            node.kubelet.settings = settings
            node.kubelet.start()


PODS = (probes.Probes, probes.FailedProbes, order.Order, order.SidecarRestart, order.Restarts, order.RestartRules, order.Refusals, ends.Hooks, ends.Messages,
        ends.Signals, limits.Limits, limits.OutOfMemory, logs.Logs, volumes.Volumes, volumes.Downward, volumes.Mounts, security.Security,
        security.UserNamespaces, pulls.Pulls, network.Network, network.Namespaces)
USES = (logs.Rotation, streams.Exec, streams.Attach, streams.Forward, resize.Resize, resize.PodResize, ends.Stops, stats.Stats,
        checkpoints.Checkpoint)
INTERRUPTIONS = (restarts.StopInterrupted, restarts.DaemonKilled, restarts.DaemonReplaced, restarts.KubeletKilled, restarts.BothKilled)
STOP_SIGNALS = {"ContainerStopSignals": True}
POD_RESIZE = {**STOP_SIGNALS, "PodLevelResources": True, "InPlacePodLevelResourcesVerticalScaling": True, "NodeDeclaredFeatures": True}
FROM_RUNTIME = {"PodAndContainerStatsFromCRI": True, "EventedPLEG": True, "CRIListStreaming": True}

GROUPS = (
    Group("pods", PODS, STOP_SIGNALS),
    Group("use", USES, POD_RESIZE),
    Group("interruptions", INTERRUPTIONS, STOP_SIGNALS),
    Group("from the runtime", (stats.StatsFromRuntime, stats.Events, stats.EventfulRestarts, restarts.EventsInterrupted), FROM_RUNTIME),
    # More than all of a disk can't be free: the kubelet is short of space for ever. It never evicts pods that files define.
    Group("short of space", (collection.Collection,), STOP_SIGNALS,
          {"evictionHard": {"imagefs.available": "99%"}, "imageMinimumGCAge": "1s"}),
    Group("many", (many.Many,), STOP_SIGNALS),
)
