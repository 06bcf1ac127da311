"""`aegis gateway`: chains, chunked streams and plugin tasks of MathProtocol, in front of the sidecar."""

import logging
import socket

import click

import settings
from gateway.config import GatewayConfig
from settings import Address


@click.command("gateway")
@settings.options(GatewayConfig, prefix="AEGIS_GATEWAY_")
def command(config: GatewayConfig) -> None:
    """Chains of tasks, numbered chunks over SSE and WebSocket, and plugin tasks, in front of the sidecar.

    POST /v2/process and /v2/stream with {"request": "3-1 | text"}; a WebSocket at /v2/stream takes requests as text
    messages. Every plugin action is logged.
    """
    import uvicorn

    from gateway.app import application
    from gateway.vault import DeadLetterVault, VaultError, VaultLimits
    from sidecar.plugins.host import PluginAction
    from sidecar.plugins.tasks import PluginsRefusedError, hosted_tasks

    logger = logging.getLogger("aegis.gateway.plugins")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each question to the model

    def on_action(action: PluginAction) -> None:
        fields = (action.plugin, action.event.value, action.task, action.detail, action.cpu_ms, action.peak_kib)
        logger.info("plugin=%s event=%s task=%d detail=%s cpu_ms=%.1f peak_kib=%d", *fields)

    try:
        tasks = hosted_tasks(config.plugins, on_action)
    except PluginsRefusedError as error:
        raise click.UsageError(str(error)) from error
    with _listening(config.listen) as listening:
        limits = VaultLimits(config.dead_letters, config.dead_letter_size, config.dead_letter_age)
        try:
            vault = DeadLetterVault.open(config.data.expanduser(), limits)
        except VaultError as error:
            raise click.ClickException(f"--data: {error}") from error
        asked_at = Address(config.listen.host, listening.getsockname()[1])
        click.echo(f"MathProtocol gateway on http://{asked_at}, asking {config.upstream}")
        served = uvicorn.Config(
            application(config, tasks, vault),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="wsproto",
            ws_max_size=config.max_request,
        )
        uvicorn.Server(served).run(sockets=[listening])


def _listening(address: Address) -> socket.socket:
    """Taken before anything is said to be ready."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=2048)
    except OSError as error:
        raise click.ClickException(f"--listen {address}: {error.strerror or error}") from None
