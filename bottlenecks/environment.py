"""What the environment says of the network, for messages: a way that fails may well be one that it prescribes."""

from __future__ import annotations

import os

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
MORE = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HF_ENDPOINT")


def prescribed() -> str:
    """Return the variables that are set, to be put behind the reason of a failure; nothing where none is."""
    names = [written for name in VARIABLES for written in (name, name.lower())]
    there = [f"{name}={os.environ[name]}" for name in (*names, *MORE) if os.environ.get(name)]
    return f"; the environment sets {', '.join(there)}" if there else ""
