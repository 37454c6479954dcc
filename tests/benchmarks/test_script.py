import json

import pytest

from benchmarks import diversity, figures, script, vllm_adapters
from benchmarks.findings import Findings, Ratio, Spread, Table, to_the_right
from mmzero_env.errors import EngineError, UserError


def call(tmp_path, found, *words):
    parser = script.parser_of("What it does.\n\nMore.", "--out")
    parser.add_argument("--steps", type=int)
    parser.add_argument("rest", nargs="*")

    def measure(args):
        if isinstance(found, Exception):
            raise found
        return found

    return script.run("scoring", parser, measure, [*words])


def findings(**changes):
    table = Table("a title", ("way", "s"), (("ours", "1.00 [.90, 1.10]"),), "a note")
    ratio = Ratio.of("theirs / ours", [2.0, 6.0, 3.0], [1.0, 2.0, 2.0])
    return Findings({"raw": [1]}, (table,), (ratio,), ("left out",), (3,), ("lxml",), **changes)


def test_figures_tables_and_ratios_are_printed_and_written(tmp_path, capsys):
    path = tmp_path / "new" / "found.json"
    words = ("--steps", "2", "--json", str(path), "--", "--json", "kept")
    assert call(tmp_path, findings(), *words) == 0
    found = json.loads(path.read_text())
    assert found["command"] == "python -m benchmarks.scoring --steps 2 -- --json kept"
    assert found["seeds"] == [3] and found["revision"] and found["figures"] == {"raw": [1]}
    assert found["machine"]["lxml"] != "not installed"
    (ratio,) = found["ratios"]
    assert (ratio["median"], ratio["min"], ratio["max"], ratio["n"]) == (2.0, 1.5, 3.0, 3)
    printed = capsys.readouterr().out
    for text in ("a title", "1.00 [.90, 1.10]", "a note", "2.00 (1.50 to 3.00)", "left out"):
        assert text in printed


@pytest.mark.parametrize("option", ["--json=f.json", "--out=f.json"])
def test_the_file_of_the_figures_is_no_part_of_the_command(tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    assert call(tmp_path, findings(), option, "--steps", "1") == 0
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["command"] == "python -m benchmarks.scoring --steps 1"


@pytest.mark.parametrize(
    ("found", "code"), [(findings(ok=False), 1), (EngineError("down"), 1), (UserError("no"), 2)]
)
def test_the_exit_code_says_what_went_wrong(tmp_path, found, code, capsys):
    assert call(tmp_path, found) == code
    if isinstance(found, Exception):
        assert f"error: {found}" in capsys.readouterr().err


def test_a_single_value_has_no_spread_and_none_is_an_error():
    assert Spread.of([1.234]).text() == "1.23"
    assert Spread.of([1500.0, 1000.0]).text(0) == "1,250 (1,000 to 1,500)"
    with pytest.raises(ValueError, match="at least one"):
        Spread.of([])


def test_a_ratio_wants_as_many_of_both():
    with pytest.raises(ValueError):
        Ratio.of("a / b", [1.0, 2.0], [1.0])


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        Table("t", ("a", "b"), (("x",),))


def test_figures_stand_to_the_right_and_names_to_the_left():
    rows = [("ours", "1.5", "", "yes"), ("theirs", "≤ 2", "", "12")]
    assert [to_the_right(rows, place) for place in range(4)] == [False, True, False, False]


def test_without_the_published_packages_a_stand_in_is_measured_and_that_is_said(monkeypatch):
    monkeypatch.setattr(diversity, "_is_there", lambda module: module != "nltk")
    args = diversity.build_parser().parse_args(["--sizes", "20", "--words", "15"])
    found = diversity.measure(args)
    assert found.ok and "plain re-creation" in found.ratios[0].what
    assert found.notes == (
        "Not run: the published computation with nltk and scikit-learn itself, because nltk "
        "cannot be imported. pip install nltk",
    )


def test_what_a_server_showed_becomes_ratios_round_by_round():
    found = vllm_adapters.found({"no adapter": [100, 200], "one": [50, 120], "three": [50, 60]})
    shown = {ratio.what: ratio.text() for ratio in found.ratios}
    assert shown["tokens a second, one / no adapter"] == "0.55 (0.50 to 0.60)"
    assert shown["tokens a second, three / one"] == "0.75 (0.50 to 1.00)"


def test_the_share_of_the_start_is_taken_of_the_mean_figure():
    start = figures.Cost((100.0, 110.0), (1.0, 1.0))
    costs = {
        "a": figures.Cost((200.0, 220.0), (2.0, 2.0)),
        "b": figures.Cost((400.0, 440.0), (3, 3)),
    }
    found = figures.found(448, start, costs)
    assert found.ratios[0].text() == "0.33 (0.33 to 0.33)"
    assert [row[0] for row in found.tables[0].rows] == ["(the start alone)", "a", "b"]
