from __future__ import annotations

import pytest

from agents.http_faults import context_overflow, scrub, server_error


@pytest.mark.parametrize(
    ("body", "message", "code", "param"),
    [
        (b'{"error": {"message": "no", "code": 400, "param": "n"}}', "no", "400", "n"),
        (b'{"error": "Unauthorized"}', "Unauthorized", "", ""),
        (b'{"detail": "Not Found"}', "Not Found", "", ""),
        (b'{"object": "error", "message": "no", "type": "T"}', "no", "T", ""),
        (b"<html>oops</html>", "<html>oops</html>", "", ""),
        (b"", "no explanation", "", ""),
        (b"\xff\xfe", "\ufffd\ufffd", "", ""),
    ],
)
def test_error_bodies_of_every_form(body, message, code, param):
    error = server_error(body)
    assert (error.message, error.code, error.param) == (message, code, param)


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (
            "This model's maximum context length is 512 tokens. However, you requested 0 output "
            "tokens and your prompt contains at least 513 input tokens",
            (512, 513),
        ),
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted "
            "in 9000 tokens.",
            (8192, 9000),
        ),
        (
            "The decoder prompt (length 600) is longer than the maximum model length of 512.",
            (512, 600),
        ),
        ("max_tokens=4000 cannot be greater than max_model_len=512.", (512, 0)),
        ("request (900 tokens) exceeds the available context size (512 tokens)", (512, 900)),
        ("Invalid value for 'temperature'", None),
    ],
)
def test_context_lengths_in_error_messages(message, found):
    assert context_overflow(message) == found


def test_keys_are_taken_out_of_texts():
    text = "Bearer abc.def refused, key secret-1, or sk-proj-****wxyz"
    assert scrub(text, ("secret-1",)) == "Bearer [key] refused, key [key], or [key]"
