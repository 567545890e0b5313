"""Where webhooks may be sent to: public addresses, and those that an operator allows.

A name is looked up once for each attempt, every address that it has is judged, and the connection goes to exactly that address: a
name that leads elsewhere at the next look (DNS rebinding) gains nothing.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence

import httpx

from jobs.errors import Permanent, ReceiverError
from jobs.setting_values import Network
from jobs.settings import Settings

MAX_URL = 2_000
WELL_KNOWN_PORTS = 1_024
"""Below it only 80 and 443: nobody receives webhooks where mail and shells are served."""
REFUSED = tuple(
    map(
        ipaddress.ip_network,
        # What `is_global` takes for public: IETF protocol assignments (a cloud's metadata among them), 6to4 relays, Azure's own,
        # and for documents.
        ("192.0.0.0/24", "192.88.99.0/24", "168.63.129.16/32", "3fff::/20"),
    )
)
UNICAST = ipaddress.IPv6Network("2000::/3")
"""What is given out to networks. Outside lies, among others, what gateways turn into IPv4 addresses (NAT64)."""
HOST_NAME = re.compile(r"[a-z0-9._-]+")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str], Sequence[str]]


def refusal(url: str, settings: Settings) -> str | None:
    """Why an order with this `notify_url` is refused, as far as the URL itself tells; None when it is not."""
    if not settings.webhook_secrets:
        return "no webhooks are sent from here: TURNSTILE_WEBHOOK_SECRETS is not set"
    try:
        parts = httpx.URL(url) if len(url) <= MAX_URL else httpx.URL()
    except (httpx.InvalidURL, ValueError):
        parts = httpx.URL()
    address, host = _literal(parts.host), parts.raw_host.decode()
    if parts.scheme not in ("http", "https") or not (address or HOST_NAME.fullmatch(host)):
        return f"must be an http:// or https:// URL with a host, at most {MAX_URL} characters"
    if parts.userinfo:
        return "must not hold a user name or password"
    if parts.port is not None and parts.port not in (80, 443) and not WELL_KNOWN_PORTS <= parts.port <= 65_535:
        return f"the port must be 80, 443 or at least {WELL_KNOWN_PORTS}"
    if address is not None and not is_allowed(address, settings.webhook_allow):
        return f"{address} is not a public address"
    return None


def is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether a webhook may be sent to this address: a public one, or one in a network that an operator allows. Pure."""
    if any(address in network for network in allowed):
        return True
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_allowed(address.ipv4_mapped, allowed)
        if address not in UNICAST or address.sixtofour is not None or address.teredo is not None:
            return False  # the last two are tunnels to IPv4 addresses
    return address.is_global and not address.is_multicast and not any(address in network for network in REFUSED)


def addresses(host: str, settings: Settings, resolve: Resolver) -> list[str]:
    """The addresses that may be connected to. Raises ReceiverError when there are none, Permanent when one is not allowed."""
    found = [ipaddress.ip_address(address.partition("%")[0]) for address in resolve(host)]
    if not found:
        raise ReceiverError(f"{host} has no address")
    for address in found:
        if not is_allowed(address, settings.webhook_allow):
            raise Permanent(f"no webhook is sent to {host}: {address} is not a public address")
    return [str(address) for address in found]


def look_up(host: str) -> list[str]:
    """Asks the system's resolver. Raises ReceiverError when the name leads nowhere at the moment."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ReceiverError(f"{host} has no address: {error}") from error
    return list(dict.fromkeys(str(place[0]) for *_, place in found))


def _literal(host: str) -> Address | None:
    """The address that a host is, also in the old spellings of IPv4 that resolvers understand (127.1, 0x7f000001)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return None
