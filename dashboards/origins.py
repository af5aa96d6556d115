"""Which server a request means, and whose page or machine it comes from."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

__all__ = ["Hosts", "client_of", "is_loopback", "port_of", "same_origin"]

_HOST = re.compile(r"(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?", re.ASCII)
"""A Host header; what else may stand there would be taken for a path by who makes a URL of it."""


@dataclass(frozen=True)
class Hosts:
    """Names that this server is asked by: another's page whose name was made to point here asks by its own."""

    names: frozenset[str]
    any_address: bool = False
    """Whether any number will do: a page of a stranger's has a name, or a number that is not ours."""

    @classmethod
    def of(cls, bound: str = "127.0.0.1", allowed: Sequence[str] = ()) -> Hosts:
        """The names of loopback, of what the server is bound to, and what else is allowed."""
        names = {"localhost", "127.0.0.1", "::1", bound, *allowed}
        outside = not is_loopback(bound)
        if outside:
            names |= {socket.gethostname(), socket.getfqdn()}
        return cls(frozenset(name.lower().strip("[]").rstrip(".") for name in names), any_address=outside)

    def allow(self, header: str | None) -> bool:
        """Whether a Host header names this server."""
        named = _HOST.fullmatch(header or "")
        if not named:
            return False
        host = named["host"].strip("[]").rstrip(".").lower()
        return host in self.names or (self.any_address and _address(host) is not None)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to ``host``."""
    address = _address(host)
    return address.is_loopback if address else host.lower() == "localhost"


def same_origin(request: Request, *, must_say: bool) -> bool:
    """Whether a request comes from our own pages, or from no page at all; ``must_say``: nothing said is not enough."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in {"same-origin", "none"}
    if origin is not None:
        return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower() != ""
    return not must_say


def port_of(header: str | None) -> str | None:
    """The port that a Host header names."""
    named = _HOST.fullmatch(header or "")
    return named["port"] if named else None


def client_of(request: Request) -> str:
    """Who tries: an address, of IPv6 the network, since one client has all of it."""
    host = request.client.host if request.client else ""
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
