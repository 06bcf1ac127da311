"""Every metric, span attribute and label value that this product emits, in one place.

Names and boundaries of `gen_ai.*` are OpenTelemetry's semantic conventions for generative AI; their Prometheus names
follow OpenTelemetry's rules (dots to underscores, unit `s` as a `_seconds` suffix, annotation units such as `{token}`
dropped). `sidecar_config_*` and `cp_*` are the names of the control API, rule 16. The rest begins with `aegis_`.

Every label has a bounded set of values: names from configuration, closed lists, or `OTHER` once a bound is reached.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

OTHER: Final = "other"
"""Label value that stands for everything beyond a bound."""
NONE: Final = "none"
"""Label value where there is nothing to name."""


class Kind(StrEnum):
    """Prometheus type of a family."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """How the values of several worker processes become one. Counters and histograms always add up."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric."""

    name: str
    """As Prometheus knows it, without `_total`, `_bucket`, `_sum`, `_count`."""
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, inclusive, without infinity."""
    merge: Merge = Merge.SUM


# --- gen_ai.*: OpenTelemetry semantic conventions for generative AI ---

TOKEN_BOUNDARIES: Final = tuple(float(4**n) for n in range(14))
DURATION_BOUNDARIES: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_BOUNDARIES: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
OUTPUT_TOKEN_BOUNDARIES: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

GEN_AI_LABELS: Final = (
    "gen_ai_operation_name",
    "gen_ai_provider_name",
    "gen_ai_request_model",
    "gen_ai_response_model",
    "server_address",
    "server_port",
    "error_type",
)
GEN_AI_TOKEN_USAGE: Final = Family(
    "gen_ai_client_token_usage",
    Kind.HISTOGRAM,
    "Tokens of one exchange as the provider counted them.",
    ("gen_ai_token_type", *GEN_AI_LABELS),
    TOKEN_BOUNDARIES,
)
GEN_AI_OPERATION_DURATION: Final = Family(
    "gen_ai_client_operation_duration_seconds",
    Kind.HISTOGRAM,
    "From the request handed to the provider to the end of its answer.",
    GEN_AI_LABELS,
    DURATION_BOUNDARIES,
)
GEN_AI_TIME_TO_FIRST_CHUNK: Final = Family(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    Kind.HISTOGRAM,
    "From the request handed to the provider to the first piece of a streamed answer released to the client.",
    GEN_AI_LABELS,
    DURATION_BOUNDARIES,
)
GEN_AI_REQUEST_DURATION: Final = Family(
    "gen_ai_server_request_duration_seconds",
    Kind.HISTOGRAM,
    "The same as the client operation duration, under the name that gateway dashboards ask for.",
    GEN_AI_LABELS,
    DURATION_BOUNDARIES,
)
GEN_AI_TIME_TO_FIRST_TOKEN: Final = Family(
    "gen_ai_server_time_to_first_token_seconds",
    Kind.HISTOGRAM,
    "The same as the time to first chunk, with the finer buckets that gateway dashboards ask for.",
    GEN_AI_LABELS,
    FIRST_TOKEN_BOUNDARIES,
)
GEN_AI_TIME_PER_OUTPUT_TOKEN: Final = Family(
    "gen_ai_server_time_per_output_token_seconds",
    Kind.HISTOGRAM,
    "Mean time of each token after the first in a streamed answer.",
    GEN_AI_LABELS,
    OUTPUT_TOKEN_BOUNDARIES,
)
# gen_ai.client.operation.time_per_output_chunk is left out: it is recorded once a chunk, on the path of every event.

# --- the data path ---

SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
)
EXCHANGES: Final = Family(
    "aegis_exchanges",
    Kind.COUNTER,
    "Finished exchanges by how they ended.",
    ("route", "dialect", "result", "status_class"),
)
EXCHANGE_DURATION: Final = Family(
    "aegis_exchange_duration_seconds",
    Kind.HISTOGRAM,
    "From the head of the request to the last byte of the answer.",
    ("route", "dialect"),
    SECONDS,
)
TIME_TO_UPSTREAM: Final = Family(
    "aegis_exchange_time_to_upstream_seconds",
    Kind.HISTOGRAM,
    "From the head of the request to the request handed to the upstream: reading, policies, connecting.",
    ("route", "dialect"),
    SECONDS,
)
REQUEST_BYTES: Final = Family(
    "aegis_request_body_bytes", Kind.COUNTER, "Bytes of request bodies.", ("route", "dialect")
)
RESPONSE_BYTES: Final = Family("aegis_response_body_bytes", Kind.COUNTER, "Bytes of answers.", ("route", "dialect"))
IDENTIFIERS: Final = Family("aegis_identifiers", Kind.COUNTER, "Identifiers taken out of prompts.", ("route", "label"))
POLICY_FINDINGS: Final = Family(
    "aegis_policy_findings",
    Kind.COUNTER,
    "What policies noticed beside identifiers: `protocol.honeypot`, `airlock.unissued_token`, ...",
    ("route", "finding"),
)
PLUGIN_ACTIONS: Final = Family(
    "aegis_plugin_actions", Kind.COUNTER, "What task plugins did or had done to them.", ("plugin", "event")
)
CONNECTIONS: Final = Family("aegis_connections", Kind.COUNTER, "Client connections accepted.")
CONNECTIONS_OPEN: Final = Family("aegis_connections_open", Kind.GAUGE, "Client connections that stand.")
UPSTREAM_CONNECTIONS: Final = Family(
    "aegis_upstream_requests",
    Kind.COUNTER,
    "Requests that got a connection to an upstream, by whether it stood already.",
    ("upstream", "reused"),
)

# --- effects that policies ask for ---

ALERTS: Final = Family("aegis_alerts", Kind.COUNTER, "Alerts that policies raised.", ("code", "severity"))
BANS: Final = Family("aegis_bans", Kind.COUNTER, "Bans that policies asked for.", ("code",))
BANNED_PEERS: Final = Family("aegis_banned_peers", Kind.GAUGE, "Peers refused at the moment.")
DEAD_LETTERS: Final = Family("aegis_dead_letters", Kind.COUNTER, "Exchanges kept for a person to replay.", ("code",))

# --- the audit trail ---

AUDIT_ENTRIES: Final = Family("aegis_audit_entries", Kind.COUNTER, "Exchanges told to the audit trail.")
AUDIT_LOST: Final = Family(
    "aegis_audit_lost",
    Kind.COUNTER,
    "Exchanges without a leaf of their own; a gap leaf counts them in the log too.",
    ("reason",),
)
AUDIT_SPOOLED: Final = Family("aegis_audit_spooled_leaves", Kind.COUNTER, "Leaves committed to the spool on disk.")
AUDIT_COMMITS: Final = Family("aegis_audit_spool_commits", Kind.COUNTER, "Group commits of the spool.")
AUDIT_DURABLE: Final = Family("aegis_audit_durable_leaves", Kind.COUNTER, "Leaves that a ledger holds durably.")
AUDIT_QUEUE: Final = Family("aegis_audit_queue_entries", Kind.GAUGE, "Exchanges in memory that are not yet spooled.")
AUDIT_PENDING: Final = Family("aegis_audit_pending_leaves", Kind.GAUGE, "Spooled leaves that are not yet durable.")
AUDIT_OLDEST: Final = Family(
    "aegis_audit_oldest_pending_seconds",
    Kind.GAUGE,
    "Age of the oldest spooled leaf that is not yet durable.",
    merge=Merge.MAX,
)
AUDIT_ACCEPTING: Final = Family(
    "aegis_audit_accepting",
    Kind.GAUGE,
    "1 while the next exchange will be spooled; at 0 routes with `audit: required` refuse.",
    merge=Merge.MIN,
)
AUDIT_CONNECTED: Final = Family(
    "aegis_audit_ledger_connected", Kind.GAUGE, "1 while the stream to the ledger stands.", merge=Merge.MIN
)
AUDIT_RECONNECTS: Final = Family(
    "aegis_audit_reconnects", Kind.COUNTER, "Ends of the stream to the ledger.", ("reason",)
)
AUDIT_EPOCHS: Final = Family("aegis_audit_epochs", Kind.COUNTER, "Epochs begun, by why.", ("reason",))
AUDIT_OPENINGS: Final = Family("aegis_audit_openings", Kind.GAUGE, "Openings kept for auditors.")
AUDIT_ORPHANED: Final = Family(
    "aegis_audit_orphaned_leaves",
    Kind.GAUGE,
    "Leaves that workers left which no longer run, in the spool that is being shipped.",
)

# --- a ledger node ---

LEDGER_SIZE: Final = Family("aegis_ledger_size_leaves", Kind.GAUGE, "Leaves of the published tree.")
LEDGER_LEAVES: Final = Family("aegis_ledger_leaves", Kind.COUNTER, "Leaves made durable by this process.")
LEDGER_GROWTH_SECONDS: Final = Family(
    "aegis_ledger_growth_seconds",
    Kind.HISTOGRAM,
    "From the pool emptied to its leaves acknowledged: one checkpoint.",
    boundaries=SECONDS,
)
LEDGER_RETRIES: Final = Family(
    "aegis_ledger_retries", Kind.COUNTER, "Steps of a growth that storage refused and that are tried again.", ("step",)
)
LEDGER_POOL: Final = Family("aegis_ledger_pool_leaves", Kind.GAUGE, "Leaves taken in and not yet being sequenced.")
LEDGER_STREAMS: Final = Family("aegis_ledger_streams", Kind.GAUGE, "Producers that a stream speaks for.")

# --- tunnels ---

TUNNEL_HANDSHAKES: Final = Family(
    "aegis_tunnel_handshakes",
    Kind.COUNTER,
    "Attempts at a tunnel by how they ended: ech, no_ech, or why not.",
    ("role", "outcome"),
)
TUNNEL_HANDSHAKE_SECONDS: Final = Family(
    "aegis_tunnel_handshake_seconds",
    Kind.HISTOGRAM,
    "From the first byte of a connection to a tunnel that stands, or to its failure.",
    ("role",),
    SECONDS,
)
TUNNELS_OPEN: Final = Family("aegis_tunnels_open", Kind.GAUGE, "Tunnels that stand.", ("role",))
TUNNEL_ENDS: Final = Family(
    "aegis_tunnel_ends", Kind.COUNTER, "Tunnels that stood, by why they ended.", ("role", "end")
)
TUNNEL_STREAMS: Final = Family("aegis_tunnel_streams", Kind.COUNTER, "Streams opened in tunnels.", ("role",))
TUNNEL_DECISIONS: Final = Family(
    "aegis_tunnel_decisions",
    Kind.COUNTER,
    "Whether a tunnel hides its service by ECH, and why; `refused`: there is no tunnel.",
    ("mode", "reason"),
)

TUNNEL_KEY_AGE: Final = Family(
    "aegis_tunnel_key_age_seconds",
    Kind.GAUGE,
    "Age of the ECH key that new tunnels use, since it became active.",
    merge=Merge.MAX,
)

# --- the control API, rule 16 ---

CONFIG_LAST_ACK: Final = Family(
    "sidecar_config_last_ack_timestamp_seconds",
    Kind.GAUGE,
    "When a configuration of this type was last acknowledged.",
    ("type",),
    merge=Merge.MIN,
)
CONFIG_APPLIED: Final = Family(
    "sidecar_config_applied_version_info",
    Kind.GAUGE,
    "1 for each version in force.",
    ("type", "name", "version"),
    merge=Merge.MAX,
)
CONFIG_NACKS: Final = Family("sidecar_config_nack", Kind.COUNTER, "Configurations refused.", ("type", "reason"))
CONFIG_REVISION_LAG: Final = Family(
    "sidecar_config_revision_lag",
    Kind.GAUGE,
    "Revisions that the control plane is ahead.",
    ("type",),
    merge=Merge.MAX,
)
CONTROL_CONNECTED: Final = Family(
    "sidecar_control_connected", Kind.GAUGE, "1 while the policy stream stands.", merge=Merge.MIN
)
CONTROL_RECONNECTS: Final = Family(
    "sidecar_control_reconnects",
    Kind.COUNTER,
    "Ends of the policy stream: connection_error, error, reconnect, complete.",
    ("reason",),
)
CONFIG_SOURCE: Final = Family(
    "sidecar_config_source",
    Kind.GAUGE,
    "1 for where the policy in force comes from: live, lkg, file, default.",
    ("source",),
    merge=Merge.MAX,
)
CP_STREAMS: Final = Family("cp_streams", Kind.GAUGE, "Policy streams that stand.")
CP_PUSH_SECONDS: Final = Family(
    "cp_push_seconds", Kind.HISTOGRAM, "From a change in the store to its acknowledgement.", boundaries=SECONDS
)
CP_PUSH_INFLIGHT: Final = Family("cp_push_inflight", Kind.GAUGE, "Deltas that are not yet acknowledged.")
CP_NACKS: Final = Family("cp_nacks", Kind.COUNTER, "Resources that sidecars refused.", ("type",))
CP_STALE_NODES: Final = Family("cp_stale_nodes", Kind.GAUGE, "Sidecars that do not run what they should.")

CP_TUNNEL_EPOCH: Final = Family(
    "cp_tunnel_epoch", Kind.GAUGE, "Grows with every change of tunnel keys.", merge=Merge.MAX
)
CP_TUNNEL_WAITING: Final = Family(
    "cp_tunnel_waiting_nodes", Kind.GAUGE, "Sidecars that have not acknowledged the newest tunnel keys."
)
CP_STALE_ECH: Final = Family(
    "cp_stale_ech_keys",
    Kind.COUNTER,
    "How often sidecars were told by a peer that their ECH key is not the current one: keys that came late.",
)
CP_TUNNEL_KEY_AGE: Final = Family(
    "cp_tunnel_key_age_seconds",
    Kind.GAUGE,
    "Seconds that the oldest key has been in its state: active, announced, retiring, static.",
    ("state",),
    merge=Merge.MAX,
)

# --- the process ---

BUILD_INFO: Final = Family("aegis_build_info", Kind.GAUGE, "Always 1.", ("version", "python"), merge=Merge.MAX)
RESIDENT_MEMORY: Final = Family("process_resident_memory_bytes", Kind.GAUGE, "Resident memory.")
CPU_SECONDS: Final = Family("process_cpu_seconds", Kind.COUNTER, "User and system CPU time.")
OPEN_FDS: Final = Family("process_open_fds", Kind.GAUGE, "Open file descriptors.")
START_TIME: Final = Family("process_start_time_seconds", Kind.GAUGE, "When the process started.", merge=Merge.MIN)
SPANS_DROPPED: Final = Family("aegis_spans_dropped", Kind.COUNTER, "Sampled exchanges whose span was not exported.")
LOGS_SUPPRESSED: Final = Family("aegis_log_lines_suppressed", Kind.COUNTER, "Log lines not written.", ("reason",))

FAMILIES: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Family))

# --- span attributes ---

SPAN_EXCHANGE: Final = "aegis.exchange.id"
SPAN_ROUTE: Final = "aegis.route"
SPAN_RESULT: Final = "aegis.result"
SPAN_IDENTIFIERS: Final = "aegis.identifiers"
SPAN_IDENTIFIER_LABELS: Final = "aegis.identifiers.labels"
