"""Any ASGI application on a free loopback port of this event loop, HTTP and WebSocket."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.server import ServerState


@asynccontextmanager
async def serving(application: Starlette) -> AsyncIterator[str]:
    """Yields `127.0.0.1:port`."""
    # uvicorn's protocol without uvicorn's Server, whose start and stop wait for a ticking clock.
    web = uvicorn.Config(
        application, log_level="critical", access_log=False, lifespan="off", http="httptools", ws="wsproto"
    )
    web.load()
    state = ServerState()
    protocol: Any = functools.partial(web.http_protocol_class, config=web, server_state=state, app_state={})
    async with application.router.lifespan_context(application):
        listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        finally:
            listening.close()
            for connection in tuple(state.connections):
                connection.transport.abort()
            if state.tasks:
                await asyncio.wait(state.tasks)
