"""What a person is told when a real server does not start."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest

from agents.vllm_process import HOST, VllmProcess
from mmzero_env.errors import UserError
from tests.vllm.settings import BARE


@pytest.mark.parametrize(
    ("change", "said", "mend"),
    [
        ({"max_model_len": 10**5}, "greater than the derived", "or set 0"),
        ({"kv_cache_gb": 0.0005}, "KV cache is needed", "raise kv_cache_gb"),
    ],
)
def test_settings_that_do_not_fit_are_explained(tmp_path, change, said, mend):
    server = VllmProcess("nano", log_dir=tmp_path, settings=replace(BARE, **change))
    with pytest.raises(UserError) as caught:
        server.start()
    assert said in str(caught.value) and mend in str(caught.value)
    assert not server.running


def test_a_port_that_is_taken_in_between_is_explained(tmp_path):
    server = VllmProcess("nano", log_dir=tmp_path, settings=BARE)
    with socket.socket() as other:
        other.bind((HOST, int(server.url.rpartition(":")[2])))
        other.listen()
        with pytest.raises(UserError, match="Another program listens on port"):
            server.start()
