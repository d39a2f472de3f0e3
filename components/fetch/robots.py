"""What a host asks of machines: robots.txt, tdmrep.json, and the headers that forbid machine learning."""

import asyncio
import codecs
import json
import re
from collections.abc import Awaitable, Callable, Iterator

from multidict import MultiMapping
from protego import Protego

from components.fetch.failure import Failure, Retry
from components.fetch.settings import AGENT

# https://www.w3.org/community/reports/tdmrep/CG-FINAL-tdmrep-20240202
TDMREP = "/.well-known/tdmrep.json"
MAX_BYTES = 500 << 10  # RFC 9309: a crawler reads at least this much
_NO_AI = frozenset({"noai", "noimageai", "noml"})
# `agent: directives`; these are directives with a value, not agents.
_NAMED = re.compile(r"\s*([\w*./-]+)\s*:(.*)")
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
# "museum-classifier/1", "Mozilla/5.0 (compatible; museum-classifier/1)", but not "museum-classifier-pro".
_US = re.compile(rf"(?<![\w-]){re.escape(AGENT)}(?![\w-])", re.IGNORECASE)
_LINE = re.compile(r"\s*([A-Za-z][A-Za-z _-]*?)\s*:\s*([^#]*)")
_RULES = frozenset({"allow", "disallow", "crawl-delay", "request-rate", "visit-time", "content-signal", "content-usage",
                    "allowaitraining", "disallowaitraining"})  # fmt: skip
_AGENTS = frozenset({"user-agent", "useragent", "user agent"})
_KNOWN = _RULES | _AGENTS | {"sitemap", "host", "clean-param", "cache-delay", "noindex", "schemamap", "license"}
# Content-Signal of Cloudflare, Content-Usage of the IETF (draft-ietf-aipref-vocab): uses that cover training.
_TRAINING = frozenset({"ai-train", "train-ai", "ai", "bots"})
_NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x19\x1b-\x1f\x7f]")
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
          (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip


class Robots:
    """robots.txt of every host met, each read once (RFC 9309)."""

    def __init__(
        self, read: Callable[[str, bool], Awaitable[bytes]], on_delay: Callable[[str, float], None], max_delay: float
    ) -> None:
        """`read(url, patient)` gets a text or raises Failure; `on_delay(origin, seconds)` hears of a crawl delay.

        A host that asks for more than `max_delay` seconds between requests is left alone.
        """
        self._read, self._on_delay, self._max_delay = read, on_delay, max_delay
        self._rules: dict[str, asyncio.Task] = {}
        self._reservations: dict[str, asyncio.Task] = {}

    async def check(self, origin: str, url: str) -> None:
        """Raises Failure(robots, noai) where `origin` (scheme://host:port) does not want `url` to be fetched."""
        if origin not in self._rules:
            self._rules[origin] = asyncio.ensure_future(self._load(origin))
        # Shielded: the object whose deadline passes first must not take the rules from the others.
        rules = await asyncio.shield(self._rules[origin])
        if rules is not None:
            self._check(rules, origin, url)
        if origin not in self._reservations:
            self._reservations[origin] = asyncio.ensure_future(self._load_reservations(origin))
        reserved = await asyncio.shield(self._reservations[origin])
        if reserved and not reserved.can_fetch(url, AGENT):
            raise Failure("noai", f"{origin}{TDMREP} reserves it from text and data mining (tdm-reservation)")

    def _check(self, rules: "Rules", origin: str, url: str) -> None:
        if not rules.crawling.can_fetch(url, AGENT):
            raise Failure("robots", f"{origin}/robots.txt does not allow it")
        if not rules.training.can_fetch(url, AGENT):
            raise Failure("noai", f"{origin}/robots.txt does not allow it for training (Content-Signal, Content-Usage)")

    async def _load(self, origin: str) -> "Rules | None":
        try:
            text = await self._read(f"{origin}/robots.txt", True)
        except Failure as failure:
            # 4xx says that there are no rules, and so does 204; 5xx says nothing, so nothing may be fetched.
            if (400 <= failure.http_status < 500 and failure.http_status != 429) or failure.http_status == 204:
                return None
            failure.retry = Retry.NEVER
            if failure.http_status:
                failure.reason = "robots_unavailable"
            raise
        try:
            rules = Rules(text)
        except ValueError as error:
            message = f"{origin}/robots.txt cannot be understood ({error}), so nothing is fetched"
            raise Failure("robots_unavailable", message) from error
        delay = float(rules.crawling.crawl_delay(AGENT) or 0)
        if delay > self._max_delay:
            raise Failure("robots", f"{origin}/robots.txt asks for {delay:g} s between requests (Crawl-delay)")
        if delay:
            self._on_delay(origin, delay)
        return rules

    async def _load_reservations(self, origin: str) -> Protego | None:
        """The rules of tdmrep.json; None where there is none, or none that can be read: then nothing is reserved."""
        try:
            text = await self._read(origin + TDMREP, False)
            return _reservations(json.loads(text.decode("utf-8-sig")))
        except (Failure, ValueError, TypeError, AttributeError):
            return None


def _reservations(rules: list[dict]) -> Protego:
    """Its locations are patterns like those of robots.txt; the longest that fits counts."""
    lines = ["User-agent: *"]
    for rule in rules:
        reserved = str(rule.get("tdm-reservation")).strip() in ("1", "True")
        location = str(rule.get("location") or "/")
        path = location if location.startswith(("/", "*")) else f"/{location}"
        lines.append(f"{'Disallow' if reserved else 'Allow'}: {path}")
    return Protego.parse("\n".join(line for line in lines if line.isprintable()))


class Rules:
    """A robots.txt: `crawling`, what may be fetched, and `training`, what may be learned from.

    Raises:
        ValueError: it is no robots.txt: a web page, bytes that are no text, words without a rule.
    """

    def __init__(self, data: bytes) -> None:
        lines = [line for line in _decoded(data).splitlines() if line.partition("#")[0].strip()]
        named = [match for match in map(_LINE.match, lines) if match]
        fields = [match[1].lower() for match in named if match[1].lower() in _KNOWN]
        if lines and not fields:
            raise ValueError(f"begins with {lines[0].strip()[:60]!r}")
        first = next((field for field in fields if field in _RULES | _AGENTS), "")
        # Rules above any User-agent are for nobody, says RFC 9309; whoever wrote them meant all.
        lines = (["User-agent: *"] if first in _RULES else []) + [_addressed(line) for line in lines]
        self.crawling = Protego.parse("\n".join(lines))
        # The same groups, with other rules: Protego knows none but those of crawling.
        self.training = Protego.parse("\n".join(_of_training(line) for line in lines))


def check_headers(headers: MultiMapping[str]) -> None:
    """Raises Failure(noai) if X-Robots-Tag, TDM-Reservation, Content-Usage or Content-Signal keeps the image back."""
    for value in headers.getall("X-Robots-Tag", []):
        if _NO_AI & set(_directives_for_us(value)):
            raise Failure("noai", f"X-Robots-Tag: {value}", http_status=200)
    for name in ("Content-Usage", "Content-Signal"):
        for value in headers.getall(name, []):
            if _refuses_training(value):
                raise Failure("noai", f"{name}: {value}", http_status=200)
    if headers.get("TDM-Reservation", "").partition(";")[0].strip(' \t"') == "1":
        raise Failure("noai", "TDM-Reservation: 1", http_status=200)


def _directives_for_us(value: str) -> Iterator[str]:
    """Of `noindex, otherbot: noai, museum-classifier/1: noimageai`: an agent's directives go on to the next agent."""
    agent = AGENT
    for word in value.split(","):
        named = _NAMED.match(word)
        if named and named[1].lower() not in _VALUED:
            agent, word = named[1].lower().partition("/")[0], named[2]
        if agent in (AGENT, "*"):
            yield word.strip().lower()


def _decoded(data: bytes) -> str:
    """Raises ValueError for what is no text."""
    mark, encoding = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), (b"", ""))
    body = data[len(mark) :]
    if not encoding:
        # ASCII in two bytes a character has a zero in every other one.
        zeros = [body[k::2].count(0) > len(body) // 4 for k in (0, 1)] if len(body) > 1 else [False, False]
        encoding = "utf-16-be" if zeros[0] and not zeros[1] else "utf-16-le" if zeros[1] and not zeros[0] else "utf-8"
    # All that matters is ASCII; in comments there is anything.
    text = body.decode(encoding, "replace").replace("\ufeff", "")
    if _NOT_TEXT.search(text):
        raise ValueError("it is no text")
    # Cut within a line it could say the opposite.
    return text if len(data) <= MAX_BYTES else text[:MAX_BYTES].rpartition("\n")[0]


def _addressed(line: str) -> str:
    """A `User-agent` line with our name in it, by whatever version and in whatever company, for Protego's eyes."""
    match = _LINE.match(line)
    return f"User-agent: {AGENT}" if match and match[1].lower() in _AGENTS and _US.search(match[2]) else line


def _of_training(line: str) -> str:
    """A line that says of training what the other says by words of its own: as Disallow, or nothing."""
    match = _LINE.match(line)
    if not match or (field := match[1].lower()) not in _RULES:
        return line
    if field in ("content-signal", "content-usage"):
        value = match[2].strip()
        path = value.split()[0] if value.startswith("/") else "/"
        signals = value[len(path) :] if value.startswith("/") else value
        return f"Disallow: {path}" if _refuses_training(signals) else f"Allow: {path}" if path != "/" else "Other: rule"
    if field in ("allowaitraining", "disallowaitraining"):
        return f"{field.removesuffix('aitraining')}: {match[2].strip()}"
    return "Other: rule"  # it ends the list of agents that it stands below


def _refuses_training(value: str) -> bool:
    pairs = (pair.partition("=") for pair in re.split(r"[,;\s]+", value.lower().replace(" =", "=").replace("= ", "=")))
    return any(name in _TRAINING and answer.strip('"?') in ("no", "n", "0", "false") for name, _, answer in pairs)
