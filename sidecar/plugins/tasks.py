"""Answers tasks that policy delegates to plugins. One process for each plugin; every action is logged and counted."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from observability import names
from observability.metrics import Registry
from policies.mathprotocol.codes import DEFAULT_TRAPS
from policies.mathprotocol.manifest import ManifestError, PluginTask
from policies.mathprotocol.resolver import ResolutionError, resolve
from policies.model import Delegate
from sidecar.plugins.host import PluginAction, PluginError, PluginEvent, PluginHost, load

logger = logging.getLogger(__name__)

_ALARMING = frozenset({PluginEvent.ESCAPE_ATTEMPT, PluginEvent.UNAVAILABLE})


class PluginsRefusedError(Exception):
    """The plugins cannot be used, alone or together. Names every reason."""


class PluginTasks:
    """Implements `sidecar.ports.Plugins`. Owned by one event loop."""

    def __init__(self, hosts: Mapping[int, PluginHost], tasks: asyncio.TaskGroup) -> None:
        """`hosts`: prime -> who answers it."""
        self._hosts = hosts
        self._tasks = tasks

    def answer(self, asked: Delegate, then: Callable[[str | None], None]) -> None:
        """Calls `then` with the plugin's answer, or with None."""
        host = self._hosts.get(asked.task)
        if host is None:
            logger.error("no plugin for a registered task: name its folder in --plugins", extra={"task": asked.task})
            then(None)
            return
        self._tasks.create_task(self._call(host, asked, then))

    async def stop(self) -> None:
        """End every process."""
        for host in {id(host): host for host in self._hosts.values()}.values():
            await host.stop()

    async def _call(self, host: PluginHost, asked: Delegate, then: Callable[[str | None], None]) -> None:
        answer: str | None = None
        try:
            answer = await host.call(asked.task, asked.param, asked.context)
        except PluginError:
            pass  # the host has told why
        except Exception as fault:
            # The task's root: one call's fault must not end the sidecar, as it would in its task group.
            logger.error("fault while calling a plugin", exc_info=fault)
        try:
            then(answer)
        except Exception as error:
            logger.error("fault while serving a plugin's answer", exc_info=error)


def plugin_hosts(folders: Sequence[Path], registry: Registry) -> dict[int, PluginHost]:
    """Prime -> host, for the tasks that code answers. Raises PluginsRefusedError; runs no code yet."""
    actions = registry.counter(names.PLUGIN_ACTIONS)

    def told(action: PluginAction) -> None:
        actions.add((action.plugin, action.event.value))
        level = logging.ERROR if action.event in _ALARMING else logging.INFO
        extra = {
            "plugin": action.plugin,
            "event": action.event.value,
            "task": action.task,
            "detail": action.detail,
            "cpu_ms": round(action.cpu_ms, 1),
            "peak_kib": action.peak_kib,
        }
        logger.log(level, "plugin action", extra=extra)

    return {prime: host for prime, (host, task) in hosted_tasks(folders, told).items() if task.entry}


def code_tasks(hosts: Mapping[int, PluginHost]) -> dict[int, PluginTask]:
    """Prime -> the task as its plugin declares it: what policies may register for code."""
    return {prime: host.tasks[prime] for prime, host in hosts.items()}


def hosted_tasks(
    folders: Sequence[Path], on_action: Callable[[PluginAction], None]
) -> dict[int, tuple[PluginHost, PluginTask]]:
    """Prime -> who has the task, and the task. Raises PluginsRefusedError; runs no code yet."""
    try:
        loaded = [load(folder.expanduser()) for folder in folders]
        resolution = resolve([plugin.manifest for plugin in loaded], DEFAULT_TRAPS)
    except (ManifestError, ResolutionError, OSError) as error:
        raise PluginsRefusedError(f"--plugins: {error}") from None
    hosts = {plugin.manifest.name: PluginHost(plugin, on_action) for plugin in loaded}
    return {prime: (hosts[owner.name], task) for prime, (owner, task) in resolution.tasks.items()}
