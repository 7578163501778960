"""What the environment says of the network: proxies, and whose certificates are trusted."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Sequence

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
VARIABLES = (*PROXIES, "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
MORE = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HF_ENDPOINT")
LOOPBACK = "localhost,127.0.0.1,::1"


def prescribed() -> str:
    """Return the variables that are set, to be put behind the reason of a failure; nothing where none is."""
    there = [f"{name}={os.environ[name]}" for name in (*_written(VARIABLES), *MORE) if os.environ.get(name)]
    return f"; the environment sets {', '.join(there)}" if there else ""


def spare_loopback() -> None:
    """Except this machine itself from the proxies of the environment, for libraries that read them on their own."""
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if not any(os.environ.get(name) for name in _written(PROXIES)) or excepted == "*":
        return
    if LOOPBACK not in excepted:
        for name in _written(("NO_PROXY",)):
            os.environ[name] = f"{excepted},{LOOPBACK}".strip(",")


def is_loopback(host: str) -> bool:
    """Return whether a name or an address is that of this machine itself."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return bool(address.is_loopback)


def _written(names: Sequence[str]) -> Iterator[str]:
    """Return variables in capitals and in small letters: libraries read either."""
    return (written for name in names for written in (name, name.lower()))
