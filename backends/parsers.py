"""The forms of settings: which variables there are, how the text of one becomes its value, and what
is said when it cannot.

`settings` declares which form a setting has. Nothing here repeats a text in an error: it may hold a
secret that stands in the wrong place.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from schemas.errors import Malformed

# Where scripts/cluster finds Kubernetes' definitions: it may stand in the same shell.
_OF_TESTS: Final = frozenset({"KNCHAT_CRDS"})
_MAX_DIGITS: Final = 18
_HOST: Final = r"(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:]+\])"
_PORT: Final = r":(?P<port>[0-9]{1,5})"
_USER: Final = r"[^\s/?#:@]+@"
_RATIO: Final = re.compile(r"[01](\.[0-9]{1,9})?", re.ASCII)
_PASSWORD: Final = re.compile(r"//[^/@\s]*:[^/@\s]*@|^[^/@\s:]*:(?!//)[^@\s]*@")


@dataclass(frozen=True, slots=True)
class Form:
    """What a text must look like."""

    pattern: str
    like: str
    """For the error: a good one."""
    instead: str = ""
    """The setting that takes the password of such a URL."""
    right: Callable[[str], bool] = lambda _: True
    """What the pattern cannot say."""

    def check(self, name: str, text: str) -> str:
        """The text itself. Raises Malformed, with the way out."""
        if _PASSWORD.search(text):
            where = (
                f"put it into {self.instead} or a file named by {self.instead}_FILE"
                if self.instead
                else "there is no place for one"
            )
            raise Malformed(
                f"{name} must not hold a password, which logs would show: {where}", field=name
            )
        match = re.fullmatch(self.pattern, text, re.ASCII)
        if match is None or not _is_port(match.groupdict().get("port")) or not self.right(text):
            raise Malformed(f"{name} must be like {self.like}", field=name)
        return text


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


# As browsers send them: CORS compares letter by letter.
ORIGIN: Final = Form(
    r"\*|null|https?://(?:[a-z0-9.\-]+|\[[0-9a-f:]+\])(?::(?!(?:80|443)$)(?P<port>[0-9]{1,5}))?"
    r"|(?!https?:)[a-z][a-z0-9+.\-]*://[A-Za-z0-9._~\-]*(?::[0-9]{1,5})?",
    "https://app.example.org, as browsers send it: small letters, no path, no default port; "
    "capacitor://localhost, file:// and null too",
)
PLACE: Final = Form(
    _HOST + _PORT, "kafka-0.example.org:9092, a host and a port; several with commas"
)
SOCKET_URL: Final = Form(
    r"wss?://[^\s/?#@]+/(?:[^\s?#]+/)?v1/socket", "wss://chat.example.org/v1/socket, the whole URL"
)
DATABASE: Final = Form(
    rf"postgresql://{_USER}{_HOST}(?:{_PORT})?/[^\s/?#]+",
    "postgresql://user@host:5432/name",
    instead="KNCHAT_DATABASE_PASSWORD",
)
REDIS: Final = Form(
    rf"rediss?://(?:{_USER})?{_HOST}(?:{_PORT})?(?:/[0-9]{{1,4}})?",
    "redis://user@host:6379/0, or rediss:// for TLS",
    instead="KNCHAT_REDIS_PASSWORD",
)
OPENSEARCH: Final = Form(
    rf"https?://{_HOST}(?:{_PORT})?",
    "https://opensearch.example.org:9200",
    instead="KNCHAT_OPENSEARCH_PASSWORD",
)
INDEX: Final = Form(
    r"[a-z0-9][a-z0-9_\-]{0,99}", "knchat-messages: small letters, digits, _ and -, at most 100"
)
SINK: Final = Form(
    rf"https?://{_HOST}(?:{_PORT})?(?:[/?][^\s#]*)?",
    "http://kafka-sink-ingress.example/namespace/name",
)
COLLECTOR: Final = Form(
    rf"https?://{_HOST}(?:{_PORT})?(?:/[^\s?#]*)?",
    "http://collector:4318, the base URL of a collector",
)
JWKS: Final = Form(
    rf"https?://{_HOST}(?:{_PORT})?(?:/[^\s#]*)?|(?![A-Za-z0-9+.\-]+://).+",
    "a file, or a URL that begins with https:// or http://",
)
ENDPOINT: Final = Form(
    rf"https?://{_HOST}(?:{_PORT})?", "https://s3.eu-central-1.amazonaws.com, without a path"
)
BUCKET: Final = Form(
    r"[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9]", "kn-chat: 3 to 63 small letters, digits, dots and dashes"
)
KEYSPACE: Final = Form(
    r"[a-z][a-z0-9_]{0,47}", "knchat: a letter, then up to 47 letters, digits or _, all small"
)
NETWORK: Final = Form(
    r"(?:[0-9.]+/[0-9]{1,2}|[0-9A-Fa-f:.]+/[0-9]{1,3})",
    "10.244.0.0/16, networks with commas between",
    right=_is_network,
)
# Kafka's rule for a static member's name; every host name keeps it.
MEMBER: Final = Form(
    r"[A-Za-z0-9._\-]{1,249}", "gateway-0: letters, digits, dots, dashes and underscores"
)


def texts(
    environ: Mapping[str, str], fields: Mapping[str, Field[Any]]
) -> Iterator[tuple[str, str]]:
    """Our variables and their texts, those that stand in files too."""
    for name, text in environ.items():
        if name in fields:
            yield name, text
        elif name.startswith("KNCHAT_") and name not in _OF_TESTS:
            item = fields.get(name.removesuffix("_FILE"))
            if item is None or not item.metadata["secret"]:
                raise Malformed(
                    f"{name} is no setting; see docs/operations/settings.md", field=name
                )
            if name.removesuffix("_FILE") in environ:
                raise Malformed(
                    f"{name} and {name.removesuffix('_FILE')} are both set; one of them says the "
                    "secret",
                    field=name,
                )
            yield name.removesuffix("_FILE"), content(name, text).rstrip("\r\n")


def value(name: str, text: str, item: Field[Any]) -> Any:
    """What a variable's text means for the field of `Settings` that it sets."""
    form, choices = item.metadata["form"], item.metadata["choices"]
    if not text and item.default and item.type in {"str", "Path"}:
        raise Malformed(f"{name} must not be empty; without it: {item.default}", field=name)
    match item.type:
        case "int":
            return integer(name, text, item.metadata["least"], item.metadata["most"])
        case "float":
            return ratio(name, text)
        case "bool":
            return boolean(name, text)
        case "Path":
            return Path(text)
        case "tuple[bytes, ...]":
            return keys(name, text)
        case "tuple[str, ...]":
            return comma_separated(text, partial(form.check, name))
    if choices:
        return one_of(name, text, choices)
    if form and text:
        return form.check(name, text)
    if text and item.name.endswith("_ca") and item.metadata["unit"] == "file":
        content(name, text)
    return text


def integer(name: str, text: str, least: int | None, most: int | None) -> int:
    """A whole number within bounds."""
    bounds = f"{'any number' if least is None else least} to {'any' if most is None else most}"
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_DIGITS:
        raise Malformed(f"{name} must be a whole number, {bounds}", field=name)
    number = int(text)
    if (least is not None and number < least) or (most is not None and number > most):
        raise Malformed(f"{name} must be {bounds}", field=name)
    return number


def ratio(name: str, text: str) -> float:
    """A number from 0 to 1."""
    if not _RATIO.fullmatch(text) or float(text) > 1:
        raise Malformed(f"{name} must be a number from 0 to 1, like 0.05", field=name)
    return float(text)


def boolean(name: str, text: str) -> bool:
    """1 or 0."""
    if text not in {"0", "1"}:
        raise Malformed(f"{name} must be 0 or 1", field=name)
    return text == "1"


def one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    """One of these words."""
    if text not in choices:
        raise Malformed(f"{name} must be one of {', '.join(choices)}", field=name)
    return text


def comma_separated(text: str, check: Callable[[str], Any]) -> tuple[Any, ...]:
    """What stands between commas."""
    return tuple(check(part.strip()) for part in text.split(",") if part.strip())


def keys(name: str, text: str) -> tuple[bytes, ...]:
    """One or two keys in base64."""
    try:
        found = comma_separated(text, lambda part: base64.b64decode(part, validate=True))
    except ValueError:
        raise Malformed(f"{name} must be base64, comma between keys", field=name) from None
    if len(found) > 2 or any(len(key) < 16 for key in found):
        raise Malformed(f"{name} holds one or two keys of at least 16 bytes", field=name)
    return found


def content(name: str, path: str) -> str:
    """What stands in a file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Malformed(
            f"{name}: {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}",
            field=name,
        ) from None


def leave_this_machine(*places: str) -> bool:
    """Whether one of these (HOST:PORT or URLs, already checked) lies elsewhere: what goes there
    crosses a network.
    """
    return not all(
        _is_loopback(host)
        for place in places
        if (host := urlsplit(place if "//" in place else f"//{place}").hostname)
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_port(port: str | None) -> bool:
    return port is None or 0 < int(port) <= 65_535
