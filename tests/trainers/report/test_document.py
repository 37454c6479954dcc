from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import pytest

from mmzero_env.errors import UserError
from tests.trainers.html_page import Page
from tests.trainers.synthetic_run import HANDLER, PROBE, SCRIPT, write_world_run
from trainers import report
from trainers.report import document
from trainers.report.scan import Scanner


def written(run: Path) -> str:
    return report.write(run).path.read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    return page[page.index(f'<section id="{name}">') :].partition("\n<section id=")[0]


def words(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_the_table_holds_the_numbers_of_the_probe(make_run) -> None:
    page = written(make_run())
    text = words(page[page.index("<table>") : page.index("</table>")])
    assert text.index("Proposer") < text.index("Coder") < text.index("Solver")
    assert "easy sampled 0.641 0.617 – 0.664 0.702 0.679 – 0.724 0.748 0.726 – 0.769" in text
    assert "base iteration 1 iteration 2 change items" in text
    assert "+0.107 ▲" in text
    assert "-0.109 ▼" in text
    assert "-0.004 " in text and "-0.004 ▼" not in text
    assert "Of 3 true metrics 1 rose and 1 fell" in page


def test_the_roles_stand_in_one_chart_with_their_numbers_in_words(make_run) -> None:
    page = section(written(make_run()), "truth")
    assert page.count('class="chart together"') == 1
    assert "proposer valid: base 0.954, 1 0.957, 2 0.950" in page
    assert "coder render rate: base 0.912" in page
    # A square, a triangle and a dot an iteration: nobody has to tell the colours apart.
    chart = page[: page.index("</figure>")]
    assert [chart.count(f'<{tag} class="dot"') for tag in ("rect", "polygon", "circle")] == [3] * 3
    assert chart.count('class="whisker"') == 9


def test_what_models_write_is_text_and_nothing_else(make_run) -> None:
    page = written(make_run(topic=HANDLER, caption=SCRIPT))
    parsed = Page(page)
    assert parsed.open == []
    names = {name for name, _ in parsed.tags}
    assert not names & {"iframe", "object", "embed", "link", "base", "img"}
    assert not [a for _, attrs in parsed.tags for a in attrs if a.startswith("on")]
    assert html.escape(SCRIPT, quote=True) in page.replace("&#39;", "&#x27;")
    assert "\x00" not in page and "nonsense" in parsed.text


def test_the_only_script_is_the_one_that_the_policy_names(make_run) -> None:
    page = written(make_run(topic=HANDLER, caption=SCRIPT))
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert page.lower().count("<script") == 1
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [a["content"] for a in Page(page).named("meta") if "http-equiv" in a]
    assert f"script-src 'sha256-{digest}';" in policy
    assert "default-src 'none'; img-src data:;" in policy
    assert SCRIPT not in script and "{{" not in script


def test_the_page_loads_nothing_and_links_to_its_own_episodes_only(make_run) -> None:
    run = make_run()
    page = written(run)
    links = set()
    for name, attrs in Page(page).tags:
        assert not {"src", "srcset", "data", "poster", "xlink:href", "action"} & attrs.keys()
        if (target := attrs.get("href")) is not None and not target.startswith("#"):
            assert name == "a"
            links.add(target)
    assert links == {f"episodes/{file.name}" for file in (run / "episodes").iterdir()}
    assert "@import" not in page
    assert set(re.findall(r"url\(([^;]{0,20})", page)) == {"data:image/png"}


def test_every_link_within_the_page_leads_somewhere(make_run) -> None:
    parsed = Page(written(make_run()))
    names = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(names) == len(set(names))
    targets = {a["href"] for a in parsed.named("a") if (a["href"] or "").startswith("#")}
    assert len(targets) > 40
    assert targets <= {f"#{name}" for name in names}


def test_sections_show_curves_votes_and_failures(make_run) -> None:
    page = written(make_run())
    # Three probe charts, and three metrics (one is null throughout) in each of three stages.
    assert page.count('class="chart probe"') == 3
    assert page.count('class="chart series"') == 9
    assert "67 % of 3" in page and "malformed xml" in page
    text = words(section(page, "failures"))
    # 8 of 3 × 9 proposals and 24 of 3 × 8 × 3 codes in each iteration.
    assert "proposal missing_tag 3 11.1 % 3 11.1 %" in text
    assert "render malformed_xml 24 33.3 % 24 33.3 %" in text


def test_what_is_not_shown_is_counted_and_linked(make_run, monkeypatch) -> None:
    monkeypatch.setattr(report.gallery, "PER_STAGE", 3)
    text = words(section(written(make_run()), "rest"))
    found = re.search(r"This page shows (\d+) of 54 recorded episodes", text)
    assert found is not None
    rows = re.findall(r"episodes/iter-\d-\w+\.jsonl 9 (\d) (\d)", text)
    assert len(rows) == 6 and all(int(a) + int(b) == 9 for a, b in rows)
    assert sum(int(shown) for shown, _ in rows) == int(found[1]) < 54
    assert "mmzero replay" in text


def test_warnings_are_listed_as_text(make_run) -> None:
    run = make_run()
    assert 'id="warnings"' not in written(run)
    said = {"iteration": 2, "stage": "solver", "step": 7, "text": f"kl rises {SCRIPT}"}
    (run / "warnings.jsonl").write_text(json.dumps(said) + "\n")
    shown = section(written(run), "warnings")
    assert "kl rises" in shown and "&lt;script&gt;" in shown
    lines = [json.dumps(said | {"text": f"number {n}"}) for n in range(150)]
    (run / "warnings.jsonl").write_text("\n".join(lines) + "\n")
    shown = words(section(written(run), "warnings"))
    assert "50 earlier ones" in shown and "number 149" in shown and "number 49 " not in shown


def test_a_run_that_was_cut_off_is_reported_as_far_as_it_went(make_run) -> None:
    run = make_run()
    (run / "probe.json").unlink()
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"iteration": 2, "sta')
    episodes = run / "episodes" / "iter-2-solver.jsonl"
    episodes.write_bytes(episodes.read_bytes()[:-50])
    page = written(run)
    assert "probe.json is missing" in page
    assert "last line of metrics.jsonl is cut off" in page
    assert "last line of episodes/iter-2-solver.jsonl is cut off" in page
    assert "8 of 8 episodes" in page


def test_a_run_that_has_only_begun_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    page = written(tmp_path)
    assert "No step has been logged yet" in page
    assert "this may be no run directory" in page
    assert Page(page).open == []


def test_episodes_alone_make_a_report(make_run) -> None:
    run = make_run()
    for name in ("config.json", "metrics.jsonl", "probe.json"):
        (run / name).unlink()
    done = report.write(run)
    assert (done.shown, done.total) == (54, 54)
    assert len(done.notes) == 3 and "settings of the run are missing" in done.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "said", "kept"),
    [
        ("config.json", "{", "config.json is damaged: expected a JSON object", 54),
        ("config.json", "[]", "found list", 54),
        ("probe.json", '{"metrics": {}}', "probe.json is damaged: expected", 54),
        (
            "probe.json",
            '{"iterations": [0, 1], "metrics": {"solver_x": []}}',
            "solver_x has 0 entries for 2 iterations",
            54,
        ),
        ("metrics.jsonl", '{"iteration": 1}\n', "line 1: expected the keys", 54),
        ("metrics.jsonl", "oops\n{}\n", "metrics.jsonl is damaged, 2 lines were left out", 54),
        ("warnings.jsonl", '{"step": 7}\n', "line 1: expected the keys iteration, stage", 54),
        ("episodes/iter-1-coder.jsonl", "{}\n", "iter-1-coder.jsonl, line 1", 45),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(
    make_run, name: str, content: str, said: str, kept: int
) -> None:
    run = make_run()
    (run / name).write_text(content)
    done = report.write(run)
    assert any(said in note for note in done.notes), done.notes
    assert done.total == kept
    assert html.escape(said) in done.path.read_text(encoding="utf-8").replace("&#34;", "&quot;")


def test_rows_around_a_damaged_one_are_kept(make_run) -> None:
    run = make_run()
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[3] = "{torn"
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    data = report.load(run)
    assert len(data.rows) == len(lines) - 1
    assert any("metrics.jsonl is damaged, a line was left out; line 4:" in m for m in data.missing)


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("something else")
    with pytest.raises(UserError, match=r"holds nothing of a run \(config.json, metrics"):
        report.write(tmp_path)
    with pytest.raises(UserError, match="not a directory"):
        report.write(tmp_path / "absent")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_the_template_needs_no_setting_in_particular(make_run) -> None:
    run = make_run()
    (run / "config.json").write_text(json.dumps({"anything": [1, {"else": None}]}))
    assert "anything" in written(run)


@pytest.mark.parametrize("limit", [220_000, 400_000])
def test_a_report_stays_below_its_limit_and_every_stage_gets_a_part(
    tmp_path: Path, limit: int
) -> None:
    run = write_world_run(tmp_path / "run", iterations=8)
    scans = Scanner().scan(run / "episodes")
    whole, everything = document.render(report.load(run), scans)
    page, shown = document.render(report.load(run), scans, limit=limit)
    assert 0.5 * limit < len(page.encode()) <= limit < len(whole.encode())
    counts = [len(group.cards) for group in shown.groups]
    assert 0 < sum(counts) < sum(len(group.cards) for group in everything.groups)
    assert min(counts) > 0 and max(counts) - min(counts) <= 2
    assert f"This page shows {sum(counts)} of 80 recorded episodes" in page


def test_a_run_of_a_thousand_iterations_makes_a_page_of_bounded_size(make_run) -> None:
    run = make_run()
    many = range(1001)
    metrics = {name: [e[0]] * len(many) for name, e in PROBE["metrics"].items()}
    (run / "probe.json").write_text(json.dumps({"iterations": list(many), "metrics": metrics}))
    rows = (
        {"iteration": i, "stage": "solver", "step": s, **{f"m{k}": i + s for k in range(20)}}
        for i in many[1:]
        for s in range(2)
    )
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = written(run)
    assert len(page) < 2_000_000
    table = words(page[page.index("<table>") : page.index("</table>")])
    assert "base iteration 91 iteration 182" in table and "iteration 1000 change" in table
