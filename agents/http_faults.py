"""What can go wrong between a policy and a server, sorted by what to do about it.

* :class:`Fault`: this attempt failed and another may not: the server is down or busy, or
  what it answered cannot be used.
* :class:`Refused`: the server understood and said no; asking again would change nothing.
* :class:`Unusable`: a value, not an exception: why the content of an answer cannot be used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import aiohttp

from agents.policy import PolicyError

T = TypeVar("T")

JSON = "application/json"
_EXCERPT = 300
_DOWN = {502, 503}
_BUSY = {429}
_ONCE_MORE = {408, 409, 425}
# OpenAI answers 429 as well when the account has no money left, which no waiting mends.
_OUT_OF_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_HIDDEN = "[key]"


@dataclass(frozen=True)
class Unusable:
    """Why an answer cannot be used.

    Attributes:
        reason: What was expected and what came.
        mend: What to change, or "".
    """

    reason: str
    mend: str = ""


class Fault(Exception):
    """One attempt failed; the next one may succeed.

    Attributes:
        kind: ``"down"``: nobody answers; ``"busy"``: the server asks to wait;
            ``"broken"``: the connection broke before the answer was there; ``"answer"``: an
            answer came that cannot be used, or none in time.
        reason: What happened.
        mend: What to change if it stays like this, or "".
        wait: Seconds that the server asks to wait, or None.
    """

    def __init__(
        self,
        kind: Literal["down", "busy", "broken", "answer"],
        reason: str,
        mend: str = "",
        wait: float | None = None,
    ) -> None:
        """See the class."""
        super().__init__(reason)
        self.kind, self.reason, self.mend, self.wait = kind, reason, mend, wait


@dataclass(frozen=True)
class ServerError:
    """What the body of an error response says.

    Attributes:
        message: For a person.
        code: The server's name of the error, or "".
        param: The field of the request that it is about, or "".
    """

    message: str
    code: str = ""
    param: str = ""


class Refused(PolicyError):
    """The server refused a request for good.

    Attributes:
        status: HTTP status.
        error: What the body says.
        request_id: Of the request.
    """

    def __init__(self, text: str, status: int, error: ServerError, request_id: str) -> None:
        """See the class."""
        super().__init__(text)
        self.status, self.error, self.request_id = status, error, request_id


@dataclass(frozen=True)
class Answer:
    """A response, whole.

    Attributes:
        status: Of HTTP.
        headers: By name in any case.
        content: Its body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True)
class Read(Generic[T]):
    """The content of an answer, and what it took.

    Attributes:
        content: What was read.
        prompt_tokens: As the server counts them.
        completion_tokens: Likewise.
    """

    content: T
    prompt_tokens: int
    completion_tokens: int


def from_exception(error: Exception, timeout: float, connect_timeout: float) -> Fault:
    """The fault behind an exception of the HTTP client.

    Args:
        error: An error of aiohttp, or a TimeoutError.
        timeout: Seconds that an answer may take.
        connect_timeout: Seconds that connecting may take.
    """
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Fault("down", f"no connection within {connect_timeout:g} s")
    hopeless = aiohttp.ClientConnectorDNSError | aiohttp.ClientSSLError | aiohttp.InvalidURL
    if isinstance(error, hopeless):
        return Fault("answer", f"no connection: {error}", "See that the URL is right.")
    if isinstance(error, aiohttp.ClientConnectorError):
        refused = isinstance(error.os_error, ConnectionRefusedError)
        return Fault("down", "connection refused" if refused else f"no connection: {error}")
    if isinstance(error, TimeoutError):
        return Fault(
            "answer",
            f"no answer within {timeout:g} s",
            "Raise the option timeout, or lower max_tokens or max_open.",
        )
    return Fault("broken", f"the connection broke: {error or type(error).__name__}")


def from_status(answer: Answer, wait: float | None) -> Fault | ServerError | None:
    """What the status of a response means.

    Args:
        answer: The response.
        wait: What :func:`agents.rate_limits.retry_after` read from the headers.

    Returns:
        None for 200, a fault that another attempt may cure, or what the server said when it
        refused for good.
    """
    status = answer.status
    if status == 200:
        return None
    error = server_error(answer.content)
    came = f"HTTP {status} ({error.message})"
    if status in _BUSY and error.code not in _OUT_OF_MONEY:
        return Fault("busy", came, "Lower max_open, or raise patience.", wait=wait)
    if status in _DOWN:
        return Fault("down", came, wait=wait)
    if status >= 500 or status in _ONCE_MORE:
        return Fault("answer", came, "The server's own log says more.", wait=wait)
    if 300 <= status < 400:
        place = answer.headers.get("location", "nowhere")
        return ServerError(f"redirected to {place}; give that address")
    return error


def server_error(content: bytes) -> ServerError:
    """Read the body of an error response, whatever its form."""
    text = content.decode("utf-8", "replace").strip()
    try:
        data = json.loads(text)
    except ValueError:
        return ServerError(excerpt(text) or "no explanation")
    if isinstance(data, Mapping):
        inner = data.get("error") or data.get("detail")
        data = inner if inner else data
    if not isinstance(data, Mapping):
        return ServerError(excerpt(str(data)))
    return ServerError(
        excerpt(str(data.get("message") or data)),
        str(data.get("code") or data.get("type") or ""),
        str(data.get("param") or ""),
    )


def decode_json(answer: Answer) -> Any | Unusable:
    """The JSON object in a response with status 200.

    Returns:
        A mapping, or why there is none.
    """
    content = answer.content
    kind = content_type(answer)
    if kind != JSON:
        return Unusable(
            f"expected application/json, came {kind or 'no content type'}: "
            f"{excerpt(content.decode('utf-8', 'replace'))!r}",
            "See that the URL is that of the API and no proxy or web page stands before it.",
        )
    try:
        data = json.loads(content)
    except ValueError as error:
        return Unusable(f"the JSON of {len(content)} bytes is damaged or cut off: {error}")
    if not isinstance(data, dict):
        return Unusable(f"expected a JSON object, came {excerpt(json.dumps(data))}")
    return data


def content_type(answer: Answer) -> str:
    """The kind of content, without its parameters, or ""."""
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def context_overflow(message: str) -> tuple[int, int] | None:
    """Read from an error message that a prompt was too long.

    Returns:
        The context length and the prompt's tokens (0 if it does not say), or None if the
        message is about something else.
    """
    for pattern in (
        r"maximum (?:context|model) length (?:is|of) (\d+)",
        r"max_model_len=(\d+)",
        r"context (?:length|window|size)\D{0,20}(\d+)",
    ):
        if found := re.search(pattern, message, re.I):
            break
    else:
        return None
    prompt = re.search(
        r"prompt \(length (\d+)\)|at least (\d+) input tokens|resulted in (\d+) tokens|"
        r"\((\d+) in (?:the )?messages|request \((\d+) tokens\)",
        message,
    )
    tokens = next((int(group) for group in prompt.groups() if group), 0) if prompt else 0
    return int(found.group(1)), tokens


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """Take keys out of a text, also those that a server shows in part.

    Args:
        text: Any text.
        secrets: Keys that were sent.
    """
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    text = re.sub(r"(?i)\bbearer\s+[^\s'\"]+", f"Bearer {_HIDDEN}", text)
    return re.sub(r"\bsk-[\w*.-]{4,}", _HIDDEN, text)


def excerpt(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]} … ({len(text)} characters)"
