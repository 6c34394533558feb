"""Who may ask: the page's own origin, and beyond loopback those who have the token."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Mapping

from aiohttp import web

from dpsr.config import ConfigError, PageConfig
from dpsr.serving.api.http_server import HttpError

SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' http: https: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer."""
CSRF_HEADER = "x-dpsr-page"
"""Has the value 1 in every request that is no GET: no page of another origin can set it without being asked first."""
LEAST_TOKEN = 16
"""Characters of the shortest token."""

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.IGNORECASE)


def read_token(config: PageConfig, environment: Mapping[str, str]) -> str | None:
    """The token that the environment has; None where the configuration asks for none.

    Raises:
        ConfigError: the variable is not set, or the token is short.
    """
    name = config.token_variable
    if name is None:
        return None
    token = environment.get(name, "")
    if len(token) < LEAST_TOKEN:
        found = f"has {len(token)} characters" if token else "is not set"
        raise ConfigError(
            f"page.token_variable = {name!r}: the variable {found}, expected a token of {LEAST_TOKEN} or more; make "
            f'one by `export {name}="$(openssl rand -hex 16)"`'
        )
    return token


class Guard:
    """Refuses requests that others made a browser send, and those without the token."""

    def __init__(self, config: PageConfig, token: str | None) -> None:
        """Keeps what is allowed.

        Args:
            config: host of the page.
            token: that requests of the API have to bring; None: none.
        """
        self._on_loopback, self._host = config.on_loopback, config.host.lower()
        self._token = None if token is None else token.encode()
        # Cookies do not tell ports apart; a page with another token has a cookie of another name.
        self._cookie_value = hashlib.sha256(b"dpsr page\0" + (self._token or b"")).hexdigest()
        self._cookie = f"dpsr_page_{self._cookie_value[-8:]}"

    def check_origin(self, request: web.BaseRequest) -> None:
        """Refuses names that are none of this page's, as by DNS rebinding, and pages of other origins.

        Raises:
            HttpError: 400 or 403.
        """
        hosts = request.headers.getall("Host", [])
        found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if found is None:
            raise HttpError(400, "the header Host has to name one host", close=True)
        name = found["name"].lower()
        # Beyond loopback names are the network's matter; there the token keeps rebound ones out.
        if self._on_loopback and not (name in ("localhost", self._host) or _is_loopback(name.strip("[]"))):
            raise HttpError(403, f"the page is not known as {name[:100]!r}; open it by http://127.0.0.1", close=True)
        for origin in request.headers.getall("Origin", []):
            if origin.lower() not in (f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"):
                raise HttpError(403, "the request comes from a page of another origin", close=True)

    def check_api(self, request: web.BaseRequest, content_type: str) -> None:
        """Refuses requests of the API from other sites, without the token, or that a form could have sent.

        Args:
            request: the request.
            content_type: of its body, where it is no GET.

        Raises:
            HttpError: 401, 403 or 415.
        """
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise HttpError(403, "the request comes from a page of another site", close=True)
        if not self._is_known(request):
            raise HttpError(
                401,
                "the token is missing or wrong; open the page once as /?token=TOKEN, or send the header "
                "Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="dpsr page"'},
                close=True,
            )
        if request.method == "GET":
            return
        if request.headers.get(CSRF_HEADER) != "1":
            raise HttpError(403, f"the header {CSRF_HEADER}: 1 is missing", close=True)
        if request.content_type != content_type:
            raise HttpError(415, f"Content-Type is {request.content_type[:100]}; expected {content_type}", close=True)

    def welcome(self, token: str) -> web.Response:
        """The answer to ``/?token=...``: a cookie, and the page without the token in its address.

        Raises:
            HttpError: 401, the token is wrong.
        """
        if self._token is None or not hmac.compare_digest(_bytes(token), self._token):
            raise HttpError(401, "the token is wrong; take the one that the environment of `dpsr page` has")
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(self._cookie, self._cookie_value, httponly=True, samesite="Strict", path="/")
        return response

    def _is_known(self, request: web.BaseRequest) -> bool:
        if self._token is None:
            return True
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(_bytes(given.strip()), self._token):
            return True
        return hmac.compare_digest(_bytes(request.cookies.get(self._cookie, "")), self._cookie_value.encode())


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
