"""The way to a server that the environment prescribes: proxies, and whose certificates are trusted."""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

import httpx

from bottlenecks.environment import is_loopback
from bottlenecks.errors import UsageError, reason
from bottlenecks.images.reading import check_regular

CERTIFICATES = {"SSL_CERT_FILE": "cafile", "SSL_CERT_DIR": "capath"}  # variable -> argument of ssl's
PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
SCHEMES = ("http", "https", "socks5", "socks5h")  # of proxies


def transport_to(url: httpx.URL) -> httpx.HTTPTransport:
    """Open the way to a server: direct to this machine itself, else by the proxy that the environment names, if any.

    Raises:
        UsageError: a variable of the environment cannot be used; the message names it.
    """
    return httpx.HTTPTransport(
        verify=trusted() if url.scheme == "https" else False, proxy=proxy_to(url), trust_env=False
    )


def proxy_to(url: httpx.URL) -> httpx.Proxy | None:
    """Return the proxy that the environment names on the way to a server, None where the way is direct.

    Raises:
        UsageError: it names something else.
    """
    return None if is_loopback(url.host) or is_excepted(url) else proxy_for(url.scheme)


def is_private(address: str) -> bool:
    """Return whether nobody between here and a server can read what travels: it is encrypted, or stays here."""
    scheme, _, rest = address.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    return scheme in ("https", "wss") or is_loopback(re.sub(r":[0-9]*$", "", host))


def is_excepted(url: httpx.URL) -> bool:
    """Return what NO_PROXY names: hosts, domains, with a port or without, `*`, and networks such as 10.0.0.0/8."""
    written = re.split(r"[\s,]+", os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or "")
    entries = [entry.removeprefix("*.") for entry in written]
    host = f"{url.host}:{url.port or PORTS.get(url.scheme)}"
    by_name = proxy_bypass_environment(host, {"no": ",".join(entries)})
    return bool(by_name) or any(_is_within(url.host, entry) for entry in entries)


def _is_within(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")) in ipaddress.ip_network(network.strip("[]"), strict=False)
    except ValueError:
        return False


def proxy_for(scheme: str) -> httpx.Proxy | None:
    """Read which proxy the environment names for addresses of a scheme, None where it names none.

    Raises:
        UsageError: it names something else.
    """
    names = [written for name in (f"{scheme}_proxy", "all_proxy") for written in (name, name.upper())]
    variable = next((name for name in names if os.environ.get(name)), None)
    if variable is None:
        return None
    value = os.environ[variable]
    address = value if "://" in value else f"http://{value}"
    try:
        url = httpx.URL(address)
        if url.scheme not in SCHEMES or not url.host:
            raise ValueError(f"{value!r} is no address of {', '.join(SCHEMES)}")
        if url.scheme.startswith("socks") and find_spec("socksio") is None:
            raise ValueError("SOCKS needs a package: pip install 'httpx[socks]'")
        return httpx.Proxy(url)
    except (ValueError, httpx.InvalidURL) as error:
        raise UsageError(
            f"{variable}={value}: cannot be used as a proxy ({reason(error)}); unset it, give it as http://HOST:PORT, "
            "or name the server in NO_PROXY"
        ) from None


def trusted() -> ssl.SSLContext:
    """Return whose certificates are trusted: the system's, or those that the environment names.

    Raises:
        UsageError: there are none where it says.
    """
    named = {variable: path for variable in CERTIFICATES if (path := os.environ.get(variable))}
    for variable, path in named.items():  # before OpenSSL looks for its own, which reads these and waits for a pipe
        with _readable(variable, path):
            check_regular(path)
    context = ssl.create_default_context()
    for variable, path in named.items():
        with _readable(variable, path):
            context.load_verify_locations(**{CERTIFICATES[variable]: path})
    return context


@contextmanager
def _readable(variable: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl's errors are such
        raise UsageError(
            f"{variable}={path}: no readable certificates ({error.strerror or reason(error)}); unset it, or give the "
            "path of PEM certificates"
        ) from None
