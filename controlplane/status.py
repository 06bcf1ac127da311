"""What is known of one sidecar, as operators are told."""

from datetime import datetime, timedelta

from aegispb.v1 import admin_pb2 as pb
from google.rpc import code_pb2

from controlplane.discovery.desired import Desired, DesiredType
from controlplane.discovery.roster import Node
from controlplane.discovery.session import HeldType
from policies import wire


def node_status(node: Node, desired: Desired, now: datetime, elapsed: float, *, every_resource: bool) -> pb.NodeStatus:
    """The status at `now`, which is `elapsed` on the clock that `node` uses."""
    session, desired = node.session, desired.of(str(node.peer))
    status = pb.NodeStatus(
        spiffe_id=str(node.peer), node_id=session.node_id, build=session.build, connected=node.connected
    )
    status.connected_at.FromDatetime(now - timedelta(seconds=elapsed - node.connected_at))
    status.last_seen.FromDatetime(now - timedelta(seconds=elapsed - session.last_seen))
    oldest = desired.revision
    for type_url, held in session.types.items():
        wanted = desired.types[type_url]
        status.wanted += len(wanted.resources)
        for name in sorted(wanted.resources.keys() | held.applied.keys() | held.refused.keys()):
            each = _resource_status(type_url, name, wanted, held)
            if each.desired_version != each.applied_version:
                oldest = min(oldest, wanted.revision - 1)
            else:
                status.in_force += 1
            if every_resource or each.rejected_version or each.desired_version != each.applied_version:
                status.resources.append(each)
    status.revision_lag = desired.revision - oldest
    return status


def _resource_status(type_url: str, name: str, wanted: DesiredType, held: HeldType) -> pb.ResourceStatus:
    resource, refusal = wanted.resources.get(name), held.refused.get(name)
    status = pb.ResourceStatus(
        kind=wire.name_of(type_url),
        name=name,
        desired_version=resource.version if resource is not None else "",
        applied_version=held.applied.get(name, ""),
    )
    if refusal is not None:
        status.rejected_version = refusal.version
        status.reason_code = _code_name(refusal.code)
        status.reason = refusal.reason
    return status


def _code_name(code: int) -> str:
    return code_pb2.Code.Name(code) if code in code_pb2.Code.values() else f"CODE_{code}"
