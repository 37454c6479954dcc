from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmzero_env.rendering.figure_report import MAX_HEADER, longest_report, read_report

PIXELS = bytes(range(48))


def report(header: object, pixels: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(4, "big") + text + pixels


def test_a_picture_comes_back_writable_with_its_flags() -> None:
    drawing = read_report(report({"flags": ["several_figures"]}, PIXELS), 4)
    assert drawing.image is not None
    assert drawing.flags == ("several_figures",)
    np.testing.assert_array_equal(drawing.image.ravel(), list(range(48)))
    drawing.image[:] = 0


def test_a_reason_comes_back_as_one_printable_line() -> None:
    text = "a\n\x1b[31mb\u202ec\ud800" + "d" * 1000
    drawing = read_report(report({"flags": [], "reason": "no_figure", "detail": text}), 4)
    assert drawing.failure is not None
    assert drawing.failure.reason == "no_figure"
    assert drawing.failure.detail.startswith("a  [31mb c d")
    assert len(drawing.failure.detail) == 400
    assert drawing.failure.detail.isprintable()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "no header"),
        (b"\0\0\0\5{}", "no header"),
        (b"\xff\xff\xff\xff{}", "no header"),
        ((MAX_HEADER + 1).to_bytes(4, "big") + b" " * 9999, "no header"),
        (report(b"{"), "not JSON"),
        (report(b"\xff\xfe"), "not JSON"),
        (report(b"[" * 4000), "not JSON"),
        (report([]), "not an object"),
        (report({}), "flags"),
        (report({"flags": "several_figures"}), "flags"),
        (report({"flags": ["trusted"]}), "flags"),
        (report({"flags": [["several_figures"]]}), "flags"),
        (report({"flags": [], "reason": "too_large", "detail": ""}), "reason"),
        (report({"flags": [], "reason": ["no_figure"], "detail": ""}), "reason"),
        (report({"flags": [], "reason": "no_figure", "detail": 5}), "reason"),
        (report({"flags": [], "reason": None}), "reason"),
        (report({"flags": []}, PIXELS[:-1]), "47 bytes of picture, 48 expected"),
        (report({"flags": []}, PIXELS + b"\0"), "49 bytes"),
    ],
)
def test_anything_else_is_bad_output(data, what) -> None:
    drawing = read_report(data, 4)
    assert drawing.failure is not None
    assert drawing.failure.reason == "bad_output"
    assert what in drawing.failure.detail


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=60))
def test_no_bytes_raise(head: bytes, tail: bytes) -> None:
    for data in (head, report(head, tail)):
        drawing = read_report(data, 4)
        assert (drawing.image is None) == (drawing.failure is not None)


def test_the_longest_report_is_counted_whole() -> None:
    assert longest_report(4) == 1 + 4 + MAX_HEADER + 48
