import json

import pytest

from benchmarks.provenance import provenance, write_result


def test_a_result_says_how_it_was_made():
    found = provenance(("mmzero", "bench", "hacks", "--out", "a b"), [0, 1], ["pillow"])
    assert found["command"] == "mmzero bench hacks --out 'a b'"
    assert found["seeds"] == [0, 1]
    assert found["revision"]
    assert found["machine"]["numpy"] != "not installed"
    assert "pillow" in found["machine"]


def test_nothing_is_written_that_json_cannot_hold(tmp_path):
    path = tmp_path / "new" / "result.json"
    with pytest.raises(ValueError):
        write_result(path, {"mean": float("inf")})
    assert not path.exists()
    write_result(path, {"mean": 0.5})
    assert json.loads(path.read_text()) == {"mean": 0.5}
