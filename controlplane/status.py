"""What is known of one sidecar, as operators are told."""

from datetime import datetime, timedelta

from aegispb.v1 import admin_pb2 as pb
from google.rpc import code_pb2

from controlplane.discovery.desired import Desired
from controlplane.discovery.roster import Node
from policies import wire


def node_status(node: Node, desired: Desired, now: datetime, elapsed: float) -> pb.NodeStatus:
    """The status at `now`, which is `elapsed` on the clock that `node` uses."""
    session = node.session
    status = pb.NodeStatus(
        spiffe_id=str(node.peer), node_id=session.node_id, build=session.build, connected=node.connected
    )
    status.connected_at.FromDatetime(now - timedelta(seconds=elapsed - node.connected_at))
    status.last_seen.FromDatetime(now - timedelta(seconds=elapsed - session.last_seen))
    oldest = desired.revision
    for type_url, held in session.types.items():
        wanted = desired.types[type_url]
        behind = False
        for name in sorted(wanted.resources.keys() | held.applied.keys() | held.refused.keys()):
            resource = wanted.resources.get(name)
            refusal = held.refused.get(name)
            each = status.resources.add(
                kind=str(wire.KINDS[type_url]),
                name=name,
                desired_version=resource.version if resource is not None else "",
                applied_version=held.applied.get(name, ""),
            )
            if refusal is not None:
                each.rejected_version = refusal.version
                each.reason_code = _code_name(refusal.code)
                each.reason = refusal.reason
            behind |= each.desired_version != each.applied_version
        if behind:
            oldest = min(oldest, wanted.revision - 1)
    status.revision_lag = desired.revision - oldest
    return status


def _code_name(code: int) -> str:
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else f"CODE_{code}"
