"""Where a running product can be reached."""

from commands.up.config import LOOPBACK, UpConfig
from commands.up.directory import Directory


def sidecar(config: UpConfig) -> str:
    """Base URL of the sidecar."""
    return f"http://{LOOPBACK}:{config.port}"


def exports(config: UpConfig) -> list[tuple[str, str]]:
    """What makes an unchanged application speak to the sidecar."""
    return [
        ("OpenAI", f"export OPENAI_BASE_URL={sidecar(config)}/openai/v1"),
        ("Anthropic", f"export ANTHROPIC_BASE_URL={sidecar(config)}/anthropic"),
    ]


def places(config: UpConfig, directory: Directory) -> list[tuple[str, str]]:
    """What there is to look at."""
    return [
        ("ready", f"http://{LOOPBACK}:{config.ready_port}/healthz/ready"),
        ("metrics", f"http://{LOOPBACK}:{config.metrics_port}/metrics"),
        ("audit log", f"http://{LOOPBACK}:{config.ledger_http_port}/checkpoint"),
        (
            "policies",
            f"aegis policy status --server {LOOPBACK}:{config.grpc_port} --identity {directory.identity('operator')}",
        ),
        ("directory", str(directory.root)),
    ]
