# SPDX-License-Identifier: Apache-2.0
"""The checks of a real_server as the one health check of a server.

keepalived takes a server out when any of its checks fails, fullnat has one check a server: the one
that looks deepest is taken, the others are told.  Its timing comes from the check, the server or the
service, whichever says it first.

keepalived asks an alive server every delay_loop, and after a failure `retry` times more, each
delay_before_retry after the other.  fullnat asks every interval and counts: fall = retry + 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fullnat.importers.document import Health, Server, Service
from fullnat.importers.health import MOST_REPEATS, read_command, read_status
from fullnat.importers.notes import ImporterError, Notes, quoted
from fullnat.importers.settings import Scope, Setting
from fullnat.importers.values import Duration, read_integer, read_ip, read_seconds

_YES = frozenset(["on", "true", "yes"])
_NO = frozenset(["off", "false", "no"])


@dataclass(frozen=True, slots=True)
class _Kind:
    type: str  # of ours
    depth: int  # the deepest of a server's checks is taken
    retry: int = 1  # the default
    delay_s: int | None = 1  # delay_before_retry by default; None: delay_loop


_KINDS = {
    "HTTP_GET": _Kind("http", 5, delay_s=3),
    "SSL_GET": _Kind("https", 5, delay_s=3),
    "DNS_CHECK": _Kind("dns", 4, retry=3, delay_s=None),
    "SMTP_CHECK": _Kind("smtp", 4),
    "MISC_CHECK": _Kind("script", 3, retry=0),
    "UDP_CHECK": _Kind("udp", 2),
    "TCP_CHECK": _Kind("tcp", 2),
    "FILE_CHECK": _Kind("file", 1, retry=0),
    "PING_CHECK": _Kind("icmp", 0),
}
CHECKS = frozenset([*_KINDS, "BFD_CHECK"])

_BINDING = "fullnat checks from its local addresses, the way the connections go"
_REASONS = {
    "bindto": _BINDING,
    "bind_if": _BINDING,
    "bind_port": _BINDING,
    "fwmark": _BINDING,
    "log_all_failures": "`fullnat events` has every change",
    "http_protocol": "requests are HTTP/1.1",
    "digest": 'keepalived has MD5; write digest = "sha256:..." of the same body',
    "user": "the script runs as fullnat does",
    "min_reply_length": "the length of the reply is not checked",
    "max_reply_length": "the length of the reply is not checked",
}
_DELAY_LOOP = Duration(60_000)
_CONNECT_TIMEOUT = Duration(5_000)
_MOST_BYTES = 1400  # of a datagram
_QUERIES = frozenset(["A", "AAAA", "CNAME", "MX", "NS", "SOA", "TXT"])
_HARMLESS = ("warmup", "fast_recovery", "tls_compliant", "regex_stack")
_REGEX_OPTIONS = {"caseless": "i", "multiline": "m", "dotall": "s", "extended": "x"}


def is_yes(setting: Setting | None) -> bool:
    """Whether a flag was given and not said no to."""
    if setting is None:
        return False
    word = setting.arguments[0].lower() if setting.arguments else "yes"
    if word not in _YES | _NO:
        raise ImporterError(setting.place, f"{setting.keyword}: found {quoted(word)}, accepted: on or off")
    return word in _YES


def read_health(scope: Scope, server: Server, service: Service, files: dict[str, str]) -> Health | None:
    """Return the check of the real_server in *scope*; *files* are the paths of the track_files."""
    found = []
    for setting in scope.all(*CHECKS):
        if setting.keyword == "BFD_CHECK":
            service.notes.left(
                setting.place, "BFD_CHECK", "fullnat has no BFD; a tcp or icmp check comes closest"
            )
        else:
            found.append(setting)
    if not found:
        return None
    chosen = max(found, key=lambda setting: _KINDS[setting.keyword].depth)
    for setting in found:
        if setting is not chosen:
            why = f"a server has one check, and {chosen.keyword} looks deepest"
            service.notes.left(setting.place, setting.keyword, why)
    return _Check(chosen, scope, server, service, files).read()


class _Check:
    """Reads one check."""

    def __init__(
        self, setting: Setting, outer: Scope, server: Server, service: Service, files: dict[str, str]
    ) -> None:
        self._setting = setting
        self._kind = _KINDS[setting.keyword]
        hosts = [inner for each in setting.block if each.keyword == "host" for inner in each.block]
        self._scope = Scope([*setting.block, *hosts], outer)
        self._server = server
        self._service = service
        self._files = files
        self._health = Health(self._kind.type)

    @property
    def _notes(self) -> Notes:
        return self._service.notes

    def read(self) -> Health:
        """Return the check, every setting of it taken or told."""
        self._read_timing()
        self._read_target()
        {
            "http": self._read_http,
            "https": self._read_http,
            "dns": self._read_dns,
            "smtp": self._read_smtp,
            "script": self._read_script,
            "udp": self._read_udp,
            "file": self._read_file,
        }.get(self._kind.type, lambda: None)()
        self._scope.ignore("host", *_HARMLESS)
        self._tell(self._scope)
        return self._health

    def _tell(self, scope: Scope) -> None:
        for setting in scope.unasked():
            why = _REASONS.get(setting.keyword, "a health check here has nothing like it")
            self._notes.left(setting.place, f"{self._setting.keyword} {setting.keyword}", why)

    def _read_timing(self) -> None:
        interval = self._seconds("delay_loop") or _DELAY_LOOP
        timeout = self._seconds("misc_timeout" if self._kind.type == "script" else "connect_timeout")
        retry = self._scope.find("retry", "nb_get_retry", "nb_sock_retry")
        retries = self._kind.retry
        if retry:
            retries = read_integer(retry.value, 0, MOST_REPEATS - 1, retry.keyword, retry.place)
        default_delay = Duration(self._kind.delay_s * 1000) if self._kind.delay_s else interval
        delay = self._seconds("delay_before_retry") or default_delay
        self._health.interval = interval
        is_local = self._kind.type in {"script", "file"}
        self._health.timeout = timeout or (interval if is_local else _CONNECT_TIMEOUT)
        self._health.rise = 1
        self._health.fall = retries + 1
        if retries and delay.ms < interval.ms:
            late = Duration(interval.ms * (retries + 1))
            why = f"a failed check comes again after interval: finding a dead server takes up to {late}"
            self._notes.changed((retry or self._setting).place, f"delay_before_retry {delay}", why)
        self._health.start = "down" if is_yes(self._scope.find("alpha")) else "up"

    def _seconds(self, keyword: str) -> Duration | None:
        """Return a duration that is given above 0."""
        setting = self._scope.find(keyword)
        if setting is None or re.fullmatch(r"0+(\.0*)?", setting.value):
            return None
        return read_seconds(setting.value, keyword, setting.place)

    def _read_target(self) -> None:
        if host := self._scope.own("connect_ip"):
            address = read_ip(host.value, "connect_ip", host.place)
            if address != self._server.address.host:
                self._health.address = str(address)
        if port := self._scope.own("connect_port"):
            number = read_integer(port.value, 1, 65535, "connect_port", port.place)
            self._health.port = number

    def _read_http(self) -> None:
        urls = self._scope.all("url")
        url = Scope(urls[0].block if urls else [], self._scope)
        for other in urls[1:]:
            self._notes.left(
                other.place, f"{self._setting.keyword} url", "a check has one request, the first"
            )
        path, regex = url.own("path"), url.own("regex")
        self._health.path = path.value if path else "/"
        host = url.find("virtualhost")
        self._health.host = host.value if host else None
        codes = url.own("status_code")
        self._health.status = _status(codes) if codes else ("200-299",)
        options = url.own("regex_options")
        negated = url.own("regex_no_match")
        if regex and is_yes(negated):
            why = "that a body must not match is not checked"
            self._notes.left(regex.place, f"{self._setting.keyword} regex_no_match", why)
        elif regex:
            self._health.body = self._regex(regex, options)
        if self._kind.type == "https":
            sni = self._scope.own("sni_name")
            is_sent = is_yes(self._scope.own("enable_sni"))
            self._health.sni = sni.value if sni else (self._health.host if is_sent else None)
            self._health.verify = False
        url.ignore(*_HARMLESS)
        self._tell(url)

    def _regex(self, regex: Setting, options: Setting | None) -> str:
        letters = ""
        for word in options.arguments if options else ():
            if word in _REGEX_OPTIONS:
                letters += _REGEX_OPTIONS[word]
            else:
                self._notes.left(
                    regex.place, f"regex_options {word}", "the regular expression is read without it"
                )
        return f"(?{letters}){regex.value}" if letters else regex.value

    def _read_dns(self) -> None:
        query, name = self._scope.own("type"), self._scope.own("name")
        self._health.query = query.value.upper() if query else "SOA"
        if query and self._health.query not in _QUERIES:
            accepted = ", ".join(sorted(_QUERIES))
            raise ImporterError(query.place, f"type: found {quoted(query.value)}, accepted: {accepted}")
        self._health.name = name.value if name else "."

    def _read_smtp(self) -> None:
        helo = self._scope.own("helo_name")
        self._health.helo = helo.value if helo else None

    def _read_script(self) -> None:
        path = self._scope.own("misc_path")
        if path is None:
            raise ImporterError(self._setting.place, "MISC_CHECK: misc_path is missing")
        self._health.command = read_command(path.value, "misc_path", path.place)
        self._health.dynamic = is_yes(self._scope.own("misc_dynamic")) or None

    def _read_udp(self) -> None:
        payload, reply = self._scope.own("payload"), self._scope.own("require_reply")
        self._health.send_hex = _hex(payload) if payload else None
        self._health.expect = _pattern(_hex(reply)) if reply else None

    def _read_file(self) -> None:
        name = self._scope.own("track_file")
        if name is None:
            raise ImporterError(self._setting.place, "FILE_CHECK: track_file is missing")
        if name.value not in self._files:
            self._notes.missing(name.place, f"track_file {name.value}", "write the path of its file")
        self._health.path = self._files.get(name.value, name.value)
        self._scope.ignore("dynamic", "weight")
        why = "a number in the file is the weight itself, and without the file the server is down"
        self._notes.changed(self._setting.place, "FILE_CHECK", why)


def _status(codes: Setting) -> tuple[int | str, ...]:
    return read_status(codes.arguments or [codes.value], "status_code", codes.place)


def _hex(payload: Setting) -> str:
    """Return the bytes of a payload: two digits each, one where a word has an odd one left."""
    digits = ""
    accepted = "[0-9A-Fa-fXx]" if payload.keyword == "require_reply" else "[0-9A-Fa-f]"
    for word in payload.arguments:
        if not re.fullmatch(f"{accepted}{{1,2800}}", word):
            raise ImporterError(
                payload.place, f"{payload.keyword}: found {quoted(word)}, accepted: hex digits"
            )
        even, odd = word[: len(word) & ~1], word[len(word) & ~1 :]
        digits += even + (f"0{odd}" if odd else "")
    if len(digits) > 2 * _MOST_BYTES:
        raise ImporterError(payload.place, f"{payload.keyword}: accepted: at most {_MOST_BYTES} bytes")
    return digits.lower()


def _pattern(digits: str) -> str:
    """Return the regular expression of a reply that begins with these bytes, x being any half of one."""
    pairs = (digits[at : at + 2] for at in range(0, len(digits), 2))
    return "(?s)^" + "".join(map(_byte, pairs)) if digits else ""


def _byte(pair: str) -> str:
    high, low = pair[0], pair[1]
    if pair == "xx":
        return "."
    if low == "x":
        return rf"[\x{high}0-\x{high}f]"
    if high == "x":
        return "[" + "".join(rf"\x{other:x}{low}" for other in range(16)) + "]"
    return rf"\x{pair}"
