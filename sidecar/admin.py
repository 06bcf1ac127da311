"""What a sidecar says of itself, and what may be asked of it, on three ports: admin, readiness, metrics."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol
from urllib.parse import parse_qs

from policies.snapshot import PolicySnapshot
from settings import settings_of
from sidecar.config import SidecarConfig
from sidecar.pages import MakePage, Page, Request, Site, json_page

LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class Subject(Protocol):
    """The sidecar these pages are about."""

    async def snapshot(self) -> object:
        """The policies in force, as something that JSON can say."""

    async def blockers(self) -> Mapping[str, str]:
        """Name -> reason of everything that keeps it from being ready."""

    async def counts(self) -> object:
        """Connections by kind."""

    async def tunnels(self) -> object:
        """Shares, rates, times and key ages of tunnels."""

    async def set_log_level(self, level: str) -> None:
        """One of LOG_LEVELS."""

    def drain(self) -> None:
        """Finish what is under way and end."""

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """(content type, page) for a scraper."""


def admin_site(config: SidecarConfig, subject: Subject) -> Site:
    """For whoever runs this machine."""
    return Site(_admin_pages(config, subject), loopback_only=True)


def _admin_pages(config: SidecarConfig, subject: Subject) -> dict[tuple[str, str], MakePage]:
    async def config_dump(_: Request) -> Page:
        return json_page(dump(config))

    async def snapshot(_: Request) -> Page:
        return json_page(await subject.snapshot())

    async def clients(_: Request) -> Page:
        return json_page(await subject.counts())

    async def tunnels(_: Request) -> Page:
        return json_page(await subject.tunnels())

    async def drain(_: Request) -> Page:
        subject.drain()
        return json_page({"draining": True})

    async def log_level(request: Request) -> Page:
        level = "".join(parse_qs(request.query.removeprefix("?")).get("level", [])).lower()
        if level not in LOG_LEVELS:
            return json_page({"error": f"expected ?level= one of {', '.join(LOG_LEVELS)}"}, 400)
        await subject.set_log_level(level)
        return json_page({"level": level})

    return {
        ("GET", "/config_dump"): config_dump,
        ("GET", "/snapshot"): snapshot,
        ("GET", "/clients"): clients,
        ("GET", "/tunnels"): tunnels,
        ("POST", "/drain"): drain,
        ("POST", "/log_level"): log_level,
        **_probes(subject),
    }


def worker_site(config: SidecarConfig, subject: Subject, snapshot: Callable[[], bytes]) -> Site:
    """For the parent of several workers: the admin pages, and `snapshot`'s metrics to be merged."""

    async def metrics(_: Request) -> Page:
        return Page(200, "application/octet-stream", snapshot())

    return Site({("GET", "/metrics_snapshot"): metrics, **_admin_pages(config, subject)}, loopback_only=False)


def readiness_site(subject: Subject) -> Site:
    """For probes, which come from outside the pod by address."""
    return Site(_probes(subject), loopback_only=False)


def metrics_site(subject: Subject) -> Site:
    """For a scraper."""

    async def metrics(request: Request) -> Page:
        content_type, body = await subject.metrics(request.accept)
        return Page(200, content_type, body)

    return Site({("GET", "/metrics"): metrics}, loopback_only=False)


def _probes(subject: Subject) -> dict[tuple[str, str], Callable[[Request], Awaitable[Page]]]:
    async def ready(_: Request) -> Page:
        blockers = await subject.blockers()
        return json_page({"ready": not blockers, "blockers": blockers}, 503 if blockers else 200)

    async def live(_: Request) -> Page:
        return json_page({"live": True})

    return {("GET", "/healthz/ready"): ready, ("GET", "/healthz/live"): live}


def dump(config: SidecarConfig) -> dict[str, object]:
    """Every setting as it can be written in a file. Secrets are left out."""
    return {
        setting.name: "(secret)" if setting.kind.is_secret else setting.kind.show(getattr(config, setting.name))
        for setting in settings_of(SidecarConfig)
    }


def describe(snapshot: PolicySnapshot | None) -> dict[str, object]:
    """A snapshot for a person."""
    if snapshot is None:
        return {"source": "none", "routes": []}
    return {
        "source": snapshot.source,
        "revision": snapshot.revision,
        "routes": [
            {
                "name": route.name,
                "prefix": route.prefix,
                "headers": dict(route.headers),
                "upstream": route.upstream.url,
                "policies": [policy.name for policy in route.pipeline.policies],
                "unknown_endpoint": route.unknown_endpoint,
                "audit": route.audit,
                "max_body": route.max_body,
            }
            for route in snapshot.routes
        ],
        "blocked": [{"name": route.name, "prefix": route.prefix} for route in snapshot.blocked],
    }
