"""May this address be fetched from here, and can the server reach it."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import SplitResult, quote, urlsplit

from qwenvl_prep.errors import AddressError, FetchDeadlineError, FetchError
from qwenvl_prep.findings import Finding

__all__ = [
    "CheckedAddress",
    "check_address",
    "check_fetchable",
    "encoded",
    "shown",
]

_IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = {"http": 80, "https": 443}
# Below it are mail, databases and shells, which a web address has no business with.
_FIRST_FREE_PORT = 1024

# A name as it stands in DNS, or IPv4 in any spelling; IPv6 stands in brackets.
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.IGNORECASE)
_BRACKETED = re.compile(r"\[[^\[\]]+\](:[0-9]*)?")
# What urlsplit would drop in silence, what browsers read as a slash, and halves of
# characters, which nothing can be encoded with.
_ODD = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
# Everything that may stand in a path and query, and what is encoded already.
_SAFE = "%/:?#[]@!$&'()*+,;=-._~"


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Not public by the IANA registries of special addresses (iana-ipv4- and
# iana-ipv6-special-registry, 2025). ipaddress knows most of them, but which ones is a
# matter of the version of Python.
_SPECIAL = _networks(
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata service
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",  # multicast, reserved, broadcast
    "2001::/23",  # Teredo, ORCHID and other tunnels
    "2001:db8::/32",
    "3fff::/20",
    # 6to4, given up by RFC 7526; versions of Python judge it differently.
    "2002::/16",
)
_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

# Where clouds hand out credentials; Azure's lies among the public addresses. None of
# them ever serves a picture, so the switch for intranets does not open them.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
    )
)

# Names that mean something in one network alone (RFC 6761, 6762, 8375, ICANN 2024).
_LOCAL_ENDINGS = (
    ".localhost",
    ".local",
    ".localdomain",
    ".internal",
    ".intranet",
    ".lan",
    ".home.arpa",
    ".test",
    ".invalid",
)
_STORE_ENDING = "-internal.aliyuncs.com"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CheckedAddress:
    """
    An address that may be fetched, with the IP addresses that this was decided by.

    Attributes
    ----------
    scheme : {"http", "https"}
        How it is fetched.
    host : str
        Name for the ``Host`` header and for the certificate, in ASCII.
    port : int
        1 to 65535.
    target : str
        Path and query, percent-encoded; often secret, so no message shows it.
    ips : tuple of str
        Only to these may be connected: a second look-up could give others.
    """

    scheme: str
    host: str
    port: int
    target: str
    ips: tuple[str, ...]

    @property
    def authority(self) -> str:
        """Host and port, as the ``Host`` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address, secrets included."""
        return f"{self.scheme}://{self.authority}{self.target}"

    def __repr__(self) -> str:
        return f"<CheckedAddress {shown(self.url)}>"


def shown(url: str) -> str:
    """
    Give an address without user, password, query and fragment, which may be secret.

    Examples
    --------
    >>> shown("https://user:word@example.org/cat.jpg?Signature=abc#top")
    'https://example.org/cat.jpg'
    """
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        scheme, rest = "", url
    whole, rest = rest, re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    port = host.rpartition("]")[2].partition(":")
    if port[1] and not port[2].isdecimal() and "@" in whole[len(authority) :]:
        # A password may hold /, ? or #, where addresses are taken apart otherwise.
        return f"{scheme}{slashes}…"
    text = f"{scheme}{slashes}{host}{slash}{path}"
    text = _ODD.sub("�", text)
    return text if len(text) <= 120 else f"{text[:119]}…"


def encoded(text: str | bytes) -> str:
    """
    Encode what has no place in an address, and nothing that is encoded already.

    Examples
    --------
    >>> encoded("/a%20b/图.png")
    '/a%20b/%E5%9B%BE.png'
    """
    return quote(text, safe=_SAFE)


def check_fetchable(
    url: str, *, allow_private: bool = False, timeout: float | None = None
) -> CheckedAddress:
    """
    Resolve an address and refuse it if it leads to a place that is not public.

    Parameters
    ----------
    url : str
        An ``http`` or ``https`` address.
    allow_private : bool
        Whether private and loopback IP addresses and every port will do, for tests
        and intranets.  The metadata services of clouds are refused all the same.
    timeout : float, optional
        Seconds that resolving may take.

    Returns
    -------
    CheckedAddress
        With all IP addresses of the host, each of them checked.

    Raises
    ------
    AddressError
        If it is no such address, holds a user or password, or if one of the host's IP
        addresses is private, loopback, link-local, multicast, reserved or otherwise
        not public, also where it is wrapped in an IPv6 address.
    FetchError
        If there is no such host.
    FetchDeadlineError
        If resolving takes longer than *timeout*.

    Notes
    -----
    The host is judged by what it resolves to, so every spelling of an IP address
    (``0x7f.1``, ``2130706433``, ``[::ffff:7f00:1]``) is judged as what it is.

    Examples
    --------
    >>> check_fetchable("http://0x7f.1/cat.jpg")
    Traceback (most recent call last):
    qwenvl_prep.errors.AddressError: Expected a public address but http://0x7f.1/cat.jpg
    leads to 127.0.0.1, ...
    """
    parts, host, port = _parsed(url)
    address = shown(url)
    if not allow_private and port < _FIRST_FREE_PORT and port not in _PORTS.values():
        raise AddressError(
            f"Expected port 80, 443 or one from {_FIRST_FREE_PORT} on but {address} "
            f"names port {port}; allow_private=True opens the others",
            address=address,
        )
    ips = _resolved(host, port, address, timeout)
    for ip in ips:
        _check_ip(ip, address, allow_private=allow_private)
    path = encoded(parts.path) or "/"
    query = f"?{encoded(parts.query)}" if parts.query else ""
    return CheckedAddress(
        scheme=parts.scheme,
        host=host,
        port=port,
        target=path + query,
        ips=tuple(str(ip) for ip in ips),
    )


def check_address(url: str) -> tuple[Finding, ...]:
    """
    Tell what keeps the server from reading an address that is handed on to it.

    Nothing is resolved or fetched: what looks public may still be closed.

    Parameters
    ----------
    url : str
        Any address; a data URI and one of the provider's store are always fine.

    Returns
    -------
    tuple of Finding
        Warnings with the code ``"unreachable-address"``; empty if nothing was found.

    Examples
    --------
    >>> check_address("https://example.org/cat.jpg")
    ()
    >>> check_address("http://192.168.0.10/cat.jpg")[0].message
    'Expected a public address but http://192.168.0.10/cat.jpg names a private host'
    """
    start = url[:8].lower()
    if start.startswith(("data:", "oss://")):
        return ()
    if not start.startswith(("http://", "https://")):
        return (_unreachable(url, "is no web address", "give the file to prepare"),)
    try:
        _, host, _ = _parsed(url)
    except AddressError:
        return (_unreachable(url, "is malformed", "write it anew"),)
    host = host.lower()
    if host.endswith(_STORE_ENDING):
        public = host.removesuffix(_STORE_ENDING) + ".aliyuncs.com"
        remedy = f"use the store's public host {public}"
        return (_unreachable(url, "names an internal host of OSS", remedy, host),)
    if _is_local(host):
        remedy = "give the server a public address, or the file to prepare"
        return (_unreachable(url, "names a private host", remedy, host),)
    return ()


def _unreachable(url: str, what: str, remedy: str, host: str = "") -> Finding:
    return Finding(
        "unreachable-address",
        "warning",
        f"Expected a public address but {shown(url)} {what}",
        remedy,
        is_mendable=False,
        actual=host or None,
    )


def _is_local(host: str) -> bool:
    try:
        return not _is_public(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        # The spellings that resolvers take: octal, hexadecimal, fewer than four parts.
        return not _is_public(ipaddress.IPv4Address(socket.inet_aton(host)))
    except OSError:
        return "." not in host or host.endswith(_LOCAL_ENDINGS)


def _parsed(url: str) -> tuple[SplitResult, str, int]:
    """Take an http or https address apart; what parsers disagree on is refused."""
    if not isinstance(url, str):
        raise TypeError(f"Expected an address as str but received {type(url).__name__}")
    address = shown(url)

    def refused(why: str) -> AddressError:
        return AddressError(
            f"Expected an http:// or https:// address but received {address}, {why}",
            address=address,
        )

    if _ODD.search(url):
        raise refused("which holds a space, a backslash or what is no character")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        # Its own text repeats the address, secrets included.
        raise refused("which cannot be taken apart") from None
    if parts.scheme not in _PORTS:
        raise refused("which is of another kind")
    if "@" in parts.netloc:
        raise refused("which holds a user or password; nothing of that kind is sent on")
    if port is None:
        port = _PORTS[parts.scheme]
    if port < 1:
        raise refused("which names port 0")
    host = host.rstrip(".")
    if "[" in parts.netloc:
        # urlsplit lets other text stand around the brackets, and drops it.
        if _BRACKETED.fullmatch(parts.netloc) is None:
            raise refused("whose host is no IP address")
        try:
            return parts, str(ipaddress.IPv6Address(host.partition("%")[0])), port
        except ValueError:
            raise refused("whose host is no IP address") from None
    try:
        host = host.encode("idna").decode("ascii") if not host.isascii() else host
    except UnicodeError:
        raise refused("whose host is no name") from None
    if len(host) > 253 or ".." in host or _HOST.fullmatch(host) is None:
        raise refused("whose host is no name")
    return parts, host, port


def _look_up(host: str, port: int) -> tuple[str, ...]:
    """Give every IP address of a host; the one place that asks the resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in found))


def _resolved(
    host: str, port: int, address: str, timeout: float | None
) -> tuple[_IP, ...]:
    answers: list[tuple[str, ...]] = []
    failures: list[Exception] = []

    def look_up() -> None:
        try:
            answers.append(_look_up(host, port))
        except (OSError, UnicodeError) as exc:
            failures.append(exc)

    if timeout is None:
        look_up()
    else:
        # The resolver knows no deadline, so it is waited for from outside.
        asking = threading.Thread(target=look_up, daemon=True)
        asking.start()
        asking.join(max(timeout, 0.0))
        if not answers and not failures:
            raise FetchDeadlineError(
                f"Expected the IP address of {address} within {timeout:.3g} s but the "
                f"resolver has not answered",
                address=address,
                seconds=timeout,
            )
    if failures or not answers[0]:
        raise FetchError(
            f"Expected a host that can be found but {address} has no IP address",
            address=address,
        ) from (failures[0] if failures else None)
    return tuple(ipaddress.ip_address(text) for text in answers[0])


def _check_ip(ip: _IP, address: str, *, allow_private: bool) -> None:
    inner = _unwrapped(ip)
    if ip in _METADATA or inner in _METADATA:
        raise AddressError(
            f"Expected a public address but {address} leads to {ip}, where a cloud "
            f"hands out its secrets",
            address=address,
        )
    if not allow_private and not _is_public(ip):
        raise AddressError(
            f"Expected a public address but {address} leads to {ip}, which is not; "
            f"allow_private=True fetches from an intranet",
            address=address,
        )


def _unwrapped(ip: _IP) -> _IP:
    """Give the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    bits = int(ip)
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    # Of NAT64 and the old IPv4-compatible form the last 32 bits; of ISATAP as well,
    # whatever network stands before it.
    if ip in _NAT64 or bits >> 32 == 0 or (bits >> 32) & 0xFDFF_FFFF == 0x5EFE:
        return ipaddress.IPv4Address(bits & 0xFFFF_FFFF)
    return ipaddress.IPv6Address(bits)  # without a scope, which makes it another one


def _is_public(ip: _IP) -> bool:
    inner = _unwrapped(ip)
    if isinstance(inner, ipaddress.IPv4Address) and not _is_public_v4(inner):
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return True
    if ip.ipv4_mapped is not None or ip in _NAT64:
        return True
    return (
        ip in _UNICAST
        and ip.is_global
        and not ip.is_reserved
        and not any(ip in network for network in _SPECIAL)
    )


def _is_public_v4(ip: ipaddress.IPv4Address) -> bool:
    return (
        ip.is_global
        and not ip.is_multicast
        and not ip.is_reserved
        and ip not in _METADATA
        and not any(ip in network for network in _SPECIAL)
    )
