"""Hypothesis strategies for policy documents."""

from base64 import b64encode

from hypothesis import strategies as st

from policies.airlock.config import GENERALISABLE, Action, AirlockConfig, Caps, Restoration, ToolRestore
from policies.airlock.labels import Profile
from policies.firewall_config import FirewallConfig, FirewallMode
from policies.honeypot.config import HoneypotConfig, TrapPlacement
from policies.mathprotocol.codes import FIBONACCI, V21_TASKS, Kind
from policies.mathprotocol.config import ProtocolConfig, ProtocolMode
from policies.mathprotocol.context import ContextRules, Damaged, Presence
from policies.mathprotocol.registered import RegisteredTask
from policies.snapshot import AuditMode, UnknownEndpoint, Upstream
from policies.spec import Document, RouteSpec
from policies.tunnel import EchMode, PeerConfig, TunnelConfig

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True).filter(lambda name: name != "none")
SECONDS = st.integers(1, 86_400).map(float)
ROUTES = st.builds(
    RouteSpec,
    st.just("/") | NAMES.map("/{}".format),
    NAMES,
    NAMES,
    NAMES,
    st.dictionaries(NAMES.map("x-{}".format), NAMES, max_size=3),
    st.booleans(),
    st.sampled_from(UnknownEndpoint),
    st.sampled_from(AuditMode),
    st.integers(1, 1 << 30),
    NAMES,
    st.just("") | NAMES,
)
PROTOCOLS = st.builds(
    ProtocolConfig,
    mode=st.sampled_from(ProtocolMode),
    tasks=st.frozensets(st.sampled_from(sorted(V21_TASKS)), min_size=1),
    params=st.frozensets(st.sampled_from(sorted(FIBONACCI)), min_size=1),
    trap_primes=st.just(frozenset()),
    ban_seconds=st.floats(0, 1000),
    max_answer=st.integers(16, 1 << 26),
    honeypot=st.builds(HoneypotConfig, st.integers(0, 10), decoy=st.booleans()),
    registered=st.just(())
    | st.builds(RegisteredTask, st.just(31), NAMES, st.sampled_from(Kind), st.just(frozenset({1, 34}))).map(
        lambda task: (task,)
    ),
    context=st.builds(ContextRules, damaged=st.sampled_from(Damaged), emoji=st.sampled_from(Presence)),
)
TRAPS = st.builds(TrapPlacement, st.integers(0, (1 << 31) - 1), st.frozensets(st.integers(2, 97)))
FIREWALLS = st.builds(FirewallConfig, st.sampled_from(FirewallMode), st.floats(0.1, 10))
AIRLOCKS = st.builds(
    AirlockConfig,
    profile=st.sampled_from(Profile),
    actions=st.dictionaries(st.sampled_from(sorted(GENERALISABLE)), st.sampled_from(sorted(set(Action))), max_size=4),
    restoration=st.builds(Restoration, st.sampled_from(ToolRestore), st.frozensets(NAMES, max_size=3), st.booleans()),
    caps=st.builds(Caps, st.integers(1, 1 << 30)),
    hint=st.text(max_size=50),
    restricted_zip3=st.frozensets(st.from_regex(r"[0-9]{3}", fullmatch=True)),
)
SPIFFE_IDS = st.builds("spiffe://{}.example/sidecar/{}".format, NAMES, NAMES)
STATICS = st.binary(min_size=32, max_size=32).filter(any).map(lambda key: b64encode(key).decode())
TUNNELS = st.builds(
    TunnelConfig,
    NAMES.map("{}.example".format),
    st.booleans(),
    st.integers(0, 10_000).map(lambda hundredths: hundredths / 100),
    NAMES,
    st.integers(3600, 86_400).map(float),
    max_name_length=st.integers(0, 255),
)
PEERS = st.builds(
    PeerConfig,
    SPIFFE_IDS,
    NAMES.map("{}.internal".format),
    st.frozensets(
        st.builds("{}://{}:{}".format, st.sampled_from(["tcp", "quic"]), NAMES, st.integers(1, 65_535)), min_size=1
    ),
    st.sampled_from(EchMode),
    st.booleans(),
    st.frozensets(SPIFFE_IDS, max_size=3),
    st.just("") | STATICS,
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    name = draw(NAMES)
    peer = draw(st.just("") | NAMES)
    scheme = "http" if peer else "https"  # a tunnel encrypts already
    upstream = st.builds(
        Upstream,
        st.just(name),
        NAMES.map((scheme + "://{}.example/v1").format),
        connect_timeout=SECONDS,
        peer=st.just(peer),
    )
    body = draw(TUNNELS | PEERS | ROUTES | PROTOCOLS | TRAPS | FIREWALLS | AIRLOCKS | upstream)
    return Document("mesh" if isinstance(body, TunnelConfig) else name, body, draw(st.none() | SECONDS))
