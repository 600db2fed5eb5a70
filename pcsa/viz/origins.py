"""Which requests a page that is served here answers: not those of other sites that are open in the same browser.

A browser lets any site open a websocket to this machine, and names the site in ``Origin``. viser asks for neither that
nor ``Host``, and has no place for a check, so the one here is put before its own when its server starts.
"""

from __future__ import annotations

import contextlib
import importlib
import ipaddress
import logging
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

_LOCK = threading.Lock()


def refusal(host: str, origin: str | None, *, loopback: bool) -> str | None:
    """Why a request is not answered; None where it is.

    A page asks for its own address: ``Origin`` and ``Host`` are the same, whatever port of whatever machine an SSH
    tunnel begins at. Programs that are no browsers send no ``Origin``. Where only this machine is served, ``Host`` is
    one of its own names or a number: any other is that of a site whose name was made to lead here (DNS rebinding).

    Args:
        host: The header ``Host``: a name or number, with a port or without.
        origin: The header ``Origin``, if there is one.
        loopback: Whether the page is served to this machine alone.

    Example:
        >>> refusal("localhost:8080", "http://localhost:8080", loopback=True)
        >>> refusal("localhost:8080", "https://example.org", loopback=True)
        'https://example.org is another site than localhost:8080'
    """
    if loopback and not _is_own(_name_of(host)):
        return f"{host} is none of this machine's own names: open the page as localhost"
    here = _address(f"//{host}")
    if origin is not None and (here is None or _address(origin) != here):
        return f"{origin} is another site than {host}"
    return None


def is_loopback(host: str) -> bool:
    """Whether an interface is for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def only_from_own_pages(host: str) -> Iterator[None]:
    """Have the server of viser that is made within answer its own pages only; the log warns where it cannot be had.

    Args:
        host: The interface that it serves.
    """
    loopback, checked = is_loopback(host), False

    def check(own: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
        def process(connection: Any, request: Any) -> Any:
            hosts, origins = (request.headers.get_all(name) for name in ("Host", "Origin"))
            reason: str | None = "one `Host` and at most one `Origin` must be given"
            if len(hosts) == 1 and len(origins) <= 1:
                reason = refusal(hosts[0], origins[0] if origins else None, loopback=loopback)
            if reason is not None:
                return connection.respond(HTTPStatus.FORBIDDEN, f"{reason}\n")
            return None if own is None else own(connection, request)

        return process

    def serve(*args: Any, process_request: Any = None, **options: Any) -> Any:
        nonlocal checked
        checked = True
        return server.serve(*args, process_request=check(process_request), **options)

    try:
        # Where viser looks for what serves: nobody else finds this there.
        user: Any = importlib.import_module("viser.infra._infra")
        server: Any = importlib.import_module("websockets.asyncio.server")
        former = user.websockets
    except (ImportError, AttributeError):
        yield
    else:
        seen = _like(former, asyncio=_like(former.asyncio, server=_like(server, serve=serve)))
        with _LOCK:
            user.websockets = seen
            try:
                yield
            finally:
                user.websockets = former
    if not checked:
        log.warning(
            "this version of viser is served without a check of who asks: while the page is served, open no site in "
            "the same browser that you do not trust"
        )


def _like(module: ModuleType, **others: Any) -> SimpleNamespace:
    """What has all that a module has, but for some of it."""
    return SimpleNamespace(**{**vars(module), **others})


def _name_of(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_own(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    return True


def _address(url: str) -> tuple[str, int | None] | None:
    """Name and port of an address, None for one that is none; the port that a scheme has by itself is none."""
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        return (parts.hostname, None if parts.port == usual else parts.port) if parts.hostname else None
    except ValueError:
        return None
