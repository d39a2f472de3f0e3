"""The fetch step's parameters, and its constants: timeouts, limits, retries."""

from dataclasses import dataclass

from components.shared.parameters import ascii_line, between

AGENT = "museum-classifier"


@dataclass(frozen=True)
class Settings:
    """Parameters of the fetch step; their meaning is in the pipeline's docstring.

    Raises:
        ParameterError: a value is outside its range.
    """

    image_base: str
    image_size: int
    jpeg_quality: int
    max_failed_fraction: float
    requests_per_second: float
    contact: str
    respect_robots: bool
    allow_private_addresses: bool

    def __post_init__(self) -> None:
        between("image_size", self.image_size, 16, 4096)
        between("jpeg_quality", self.jpeg_quality, 1, 100)
        between("max_failed_fraction", self.max_failed_fraction, 0, 1)
        if self.requests_per_second != 0:  # 0 is no limit; below one in 100 s no collection is ever fetched
            between("requests_per_second", self.requests_per_second, 0.01, 1e6)
        ascii_line("contact", self.contact, "mailto:you@museum.org")

    @property
    def user_agent(self) -> str:
        """`museum-classifier/1 (+contact)`."""
        return f"{AGENT}/1" + (f" (+{self.contact})" if self.contact else "")


@dataclass(frozen=True)
class ShardSettings(Settings):
    """The parameters, and what fetching one shard needs to know of its collection.

    Attributes:
        named: The other paths and URIs that the user typed: table and images.
        side_by_side: Shards that may be fetched at the same time: they share each host's pace.
    """

    named: tuple[str, ...]
    side_by_side: int


@dataclass(frozen=True)
class Limits:
    """Constants of one fetch; tests make them small. Times in seconds."""

    processes: int = 0  # 0: one per core, at most 8
    attempts: int = 5  # of one object, for faults that can pass
    refusals: int = 20  # of one object, by 429: the host's pace adapts meanwhile
    deadline: float = 180.0  # of one object: requests and backoff, not the wait for its host's turn
    patience: float = 3600.0  # with one object, and with one host, that is refused again and again
    connect_timeout: float = 10.0
    read_timeout: float = 30.0  # without a single byte
    backoff: float = 0.5  # before the second attempt; doubles, with full jitter
    max_backoff: float = 30.0
    max_pause: float = 900.0  # a longer Retry-After is taken as "not today"
    max_crawl_delay: float = 60.0  # a robots.txt that asks for more does not want machines
    host_connections: int = 32  # to one host, from all processes of all shards
    store_connections: int = 8  # to one bucket, from one process
    host_failures: int = 10  # in a row, without an answer: from then on one probe at a time
    turned_away: int = 20  # in a row, by a challenge or a login: then the host is left alone
    host_patience: float = 60.0  # after so long without any answer a host is given up
    recovery: float = 2.0  # between two steps back up after a 429
    max_bytes: int = 64 << 20  # of one image
    buffer_bytes: int = 16 << 20  # bodies held by one process
    redirects: int = 5
    part_objects: int = 1000  # then a part is closed, and uploaded where the output is remote
    part_seconds: float = 60.0
