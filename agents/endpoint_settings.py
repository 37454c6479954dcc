"""How a server is spoken to: time-outs, patience, the name of the key's variable, its address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from yarl import URL

from mmzero_env.errors import UserError

_CREDENTIALS = {"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"}


@dataclass(frozen=True)
class EndpointSettings:
    """How a server is spoken to.

    Attributes:
        timeout: Seconds that one answer may take, from the last byte sent.
        connect_timeout: Seconds that connecting may take.
        retries: Attempts after the first, for answers that fail or cannot be used.
        patience: Seconds that a request waits in all for a server that is down or busy.
        backoff: Seconds of the first pause; they double up to 20 times that. Pauses are
            shortened at random, by up to half.
        api_key_env: Environment variable with the key, read when a request is made.
        key_needed: Whether a request without a key is not worth sending.
        headers: Sent with every request; none of them a secret.
    """

    timeout: float = 600.0
    connect_timeout: float = 10.0
    retries: int = 6
    patience: float = 600.0
    backoff: float = 0.5
    api_key_env: str = ""
    key_needed: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            UserError: Naming the option.
        """
        for name in ("timeout", "connect_timeout", "backoff"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not value > 0:
                raise UserError(f"{name} must be positive, came {value!r}")
        for name, kinds in (("retries", int), ("patience", int | float)):
            value = getattr(self, name)
            if not isinstance(value, kinds) or not value >= 0:
                raise UserError(f"{name} must not be negative, came {value!r}")
        for name in self.headers:
            if name.lower() in _CREDENTIALS:
                raise UserError(
                    f"header {name!r} carries a key, and options are written into run "
                    "directories; put the key into an environment variable and give its name as "
                    "api_key_env"
                )


def checked_url(url: str) -> str:
    """A base URL without a slash at its end.

    Raises:
        UserError: If it is no HTTP URL, or carries a password, a query or a fragment.
    """
    try:
        parsed = URL(url)
    except ValueError as error:
        raise UserError(f"{url!r} is no URL: {error}") from None
    if parsed.raw_user is not None or parsed.raw_query_string or parsed.raw_fragment:
        raise UserError(
            f"a URL carries no user, password, query or fragment, came one for {parsed.host!r}; "
            "a key belongs into an environment variable (option api_key_env)"
        )
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"expected a URL such as http://127.0.0.1:8000, came {url!r}")
    return str(parsed).rstrip("/")
