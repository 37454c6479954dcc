"""How a page of a report is put together: templates, style, the one script, the content policy.

Everything a model wrote reaches a page through a template that escapes it. The policy of the
page is the second lock: it allows pictures from the page itself, its style, and scripts of
one SHA-256 only, so that an injected script would not run even if the escaping failed.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent.parent / "templates"

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(value: Any) -> Any:
    """Text without the characters that no page can hold (controls, lone surrogates)."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _CONTROL.sub("\ufffd", value)
    return value


@functools.cache
def environment() -> Environment:
    """The templates, with escaping on."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style() -> Markup:
    """The style sheet."""
    return Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))


def script() -> Markup:
    """The one script of a report: filters, links to episodes, reloading while it is watched."""
    return Markup((TEMPLATES / "report.js").read_text(encoding="utf-8"))


def policy(script: str = "") -> str:
    """The content security policy of a page.

    Args:
        script: The text of the only script that may run; none may by default.
    """
    allowed = "'none'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        allowed = f"'sha256-{digest}'"
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src {allowed}; base-uri 'none'; form-action 'none'"
    )
