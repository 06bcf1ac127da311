"""The default policy of `aegis up`: everything protected, everything on record, one upstream."""

import json
from typing import Final

from policies.firewall_config import FirewallMode
from policies.mathprotocol.config import ProtocolMode

ROUTES: Final = {"openai": "/openai", "anthropic": "/anthropic", "everything": "/"}
"""Name -> prefix. The last one is for clients whose base URL is the sidecar itself."""

_FIREWALL_MODES: Final = {ProtocolMode.MONITOR: FirewallMode.MONITOR, ProtocolMode.ENFORCE: FirewallMode.BLOCK}


def default_policies(upstream: str, protocol: ProtocolMode) -> str:
    """One file of YAML, to be read, changed and pushed again.

    Routes of every dialect to `upstream`; all labels of hipaa_safe_harbor tokenised; every exchange audited.
    """
    documents = [
        _document("Upstream", "model", f"url: {json.dumps(upstream.rstrip('/'))}"),
        _document("AirlockPolicy", "hipaa-safe-harbor", "profile: hipaa_safe_harbor"),
    ]
    lines = ["upstream: model", "airlock: hipaa-safe-harbor"]
    if protocol is not ProtocolMode.OFF:
        documents.append(_document("ProtocolPolicy", "mathprotocol", f"mode: {json.dumps(protocol)}"))
        lines.append("protocol: mathprotocol")
        documents.append(_document("FirewallPolicy", "context", f"mode: {_FIREWALL_MODES[protocol]}"))
        lines.append("firewall: context")
    lines.append("audit: required  # an exchange that could not be proven later does not take place")
    documents += [_document("Route", name, f"prefix: {prefix}", *lines) for name, prefix in ROUTES.items()]
    return "---\n".join(documents)


def _document(kind: str, name: str, *spec: str) -> str:
    lines = "".join(f"  {line}\n" for line in spec)
    return f"apiVersion: aegis.mesh/v1\nkind: {kind}\nmetadata:\n  name: {name}\nspec:\n{lines}"
