"""The stricter built-in default that takes the place of a policy whose time to live has passed.

Never "off", and never laxer than what it replaces: whatever the expired policy blocked stays blocked.
"""

from dataclasses import replace
from typing import Final

from policies.airlock.config import RESTRICTED_ZIP3, Action, AirlockConfig, Restoration, ToolRestore
from policies.airlock.labels import Profile
from policies.firewall_config import FirewallConfig, FirewallMode
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.spec import Document
from policies.tunnel import TunnelConfig

_STRICT_RESTORATION: Final = Restoration(tools=ToolRestore.NEVER, system_values=False)


def stricter(document: Document) -> Document | None:
    """What stands in for `document` once it has expired. None: nothing does, and routes that need it are blocked."""
    match document.body:
        case AirlockConfig(actions=actions, caps=caps, restricted_zip3=areas):
            kept = {label: action for label, action in actions.items() if action is not Action.ALLOW}
            strict = AirlockConfig(
                profile=Profile.HIPAA_SAFE_HARBOR,
                actions=kept,
                restoration=_STRICT_RESTORATION,
                caps=caps,
                restricted_zip3=RESTRICTED_ZIP3 | areas,
            )
            return replace(document, body=strict)
        case FirewallConfig(threshold=threshold):
            strict_score = FirewallConfig(FirewallMode.BLOCK, min(threshold, FirewallConfig().threshold))
            return replace(document, body=strict_score)
        case ProtocolConfig():
            return replace(document, body=replace(document.body, mode=ProtocolMode.ENFORCE))
        case TunnelConfig():
            return replace(document, body=replace(document.body, enabled=True, rollout_percentage=100.0))
        case _:
            return None
