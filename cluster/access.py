"""The way to a cluster: the address of its dashboard, the token that opens it, what is wrong with
either. No ray is loaded.

Ray's own client repeats nothing and waits for ever where packets are lost, tells "wrong port" by a
traceback, and sends a token only where RAY_AUTH_MODE says so, although a cluster that was started
without it asks for one all the same (2.60). So the first question is asked here, and what is found
out goes to Ray's client as a header.
"""

import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llm.errors import UserError

DASHBOARD = "http://127.0.0.1:8265"
"""Where Ray puts it unless told otherwise."""

ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""As Ray's own command line reads them, the first of them first."""

CONNECT_SECONDS = 10.0

NOT_A_DASHBOARD = (
    "is no Ray dashboard: {}; give the address at which Ray shows it, http://HEAD:8265"
)


class AccessError(UserError):
    """A cluster that cannot be reached, or does not let us in."""


@dataclass(frozen=True)
class Token:
    """What opens a cluster, and where it was found."""

    value: str
    source: str


@dataclass(frozen=True)
class Door:
    """A dashboard that has let us in."""

    url: str
    headers: dict[str, str]
    ray: str
    """Version of the cluster's Ray."""


def address_of(written: str | None, resolve: Callable[[str], str]) -> str:
    """The dashboard's URL: as written, else from the environment, else on this machine.

    `resolve` finds the dashboard of a cluster that is named as ray.init would have it (HOST:6379,
    auto, ray://).
    """
    found = next(filter(None, (os.environ.get(name) for name in ADDRESSES)), DASHBOARD)
    address = written or found
    if not address.startswith(("http://", "https://")):
        address = resolve(address)
    return address.rstrip("/")


def open_door(url: str, plain: bool = False) -> Door:
    """Knock; AccessError says in one line why it stays shut.

    plain: whether a token may travel over a network without encryption.
    """
    token = token_for(url)
    if token and not plain and url.startswith("http://") and not is_here(url):
        raise AccessError(
            f"{url}: the token ({token.source}) would travel unencrypted, for anyone on the way "
            "to read; use https, a tunnel (ssh -L 8265:127.0.0.1:8265 HEAD, kubectl port-forward) "
            "and its end here, or --plain-http if the network is your own"
        )
    headers = {"Authorization": f"Bearer {token.value}"} if token else {}
    version = ask(url, "/api/version", headers, token)
    if "ray_version" not in version:
        raise AccessError(f"{url} {NOT_A_DASHBOARD.format('it answers something else')}")
    return Door(url, headers, version["ray_version"])


def token_for(url: str) -> Token | None:
    """The token that Ray would send, and that of this user to a cluster of this machine."""
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode == "disabled":
        return None
    if value := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return Token(value, "RAY_AUTH_TOKEN")
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return Token(read_token(Path(path).expanduser()), f"RAY_AUTH_TOKEN_PATH, {path}")
    kept = Path.home() / ".ray" / "auth_token"
    if (mode == "token" or is_here(url)) and kept.exists():
        return Token(read_token(kept), str(kept))
    return None


def read_token(path: Path) -> str:
    """The token in a file."""
    try:
        value = path.read_text().strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AccessError(f"RAY_AUTH_TOKEN_PATH: {path} cannot be read: {reason}") from error
    if not value:
        raise AccessError(f"{path} is empty; it should hold the cluster's token")
    return value


def require_listener(address: str) -> None:
    """AccessError unless something listens at HOST:PORT; Ray itself would try for 40 s."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AccessError(
            f"{address}: no cluster answers there ({reason}); is it up (ray status on its head), "
            "and this the port of its GCS (6379 unless it was set)?"
        ) from error


def is_here(url: str) -> bool:
    """Whether a URL is one of this machine's loopback, which nobody else can listen to."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


# -- the question ----------------------------------------------------------------------------------


class Straight(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere: the token is for this server alone."""

    def redirect_request(self, *_: Any) -> None:
        """No request: the answer is the redirection itself."""


def ask(url: str, path: str, headers: dict[str, str], token: Token | None) -> dict[str, Any]:
    """The JSON of a GET."""
    opener = urllib.request.build_opener(Straight)
    try:
        request = urllib.request.Request(url + path, headers=headers)
        with opener.open(request, timeout=CONNECT_SECONDS) as answer:
            said = json.loads(answer.read(1 << 16))
    except urllib.error.HTTPError as error:
        raise AccessError(f"{url} {refusal(error.code, token)}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise AccessError(f"{url} {silence(error)}") from error
    return said if isinstance(said, dict) else {}


def refusal(code: int, token: Token | None) -> str:
    """What a status means."""
    if code == 401:
        return (
            "wants a token, and none was found: set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to a "
            "file that holds it (on the head: ray get-auth-token), and RAY_AUTH_MODE=token"
        )
    if code == 403 and token is not None:
        return (
            f"refuses the token of {token.source}: it is another cluster's, or an old one; ask "
            "whoever started the cluster (on the head: ray get-auth-token)"
        )
    return NOT_A_DASHBOARD.format(f"it answers with HTTP status {code}")


def silence(error: Exception) -> str:
    """Why there is no answer."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, ConnectionRefusedError):
        return (
            "refuses connections: nobody listens there. Is the cluster up (ray status on its "
            "head), and this its dashboard's port? From outside: ssh -L 8265:127.0.0.1:8265 HEAD, "
            "or kubectl port-forward svc/CLUSTER-head-svc 8265"
        )
    if isinstance(cause, TimeoutError):
        return (
            f"gives no answer in {CONNECT_SECONDS:.0f} s: a firewall, or a host that is down; "
            "from outside: ssh -L 8265:127.0.0.1:8265 HEAD, or kubectl port-forward"
        )
    if isinstance(cause, socket.gaierror):
        return "names a host that cannot be found; check its spelling, and the VPN"
    if isinstance(cause, ssl.SSLError):
        return f"does not prove who it is ({cause.reason or cause}); http:// in place of https://?"
    if isinstance(cause, OSError):
        return f"cannot be reached: {cause.strerror or cause}"
    return NOT_A_DASHBOARD.format("it does not speak HTTP, or no JSON")
