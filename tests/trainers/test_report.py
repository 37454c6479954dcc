from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mmzero_env.errors import UserError
from tests.trainers.synthetic_run import HANDLER, SCRIPT
from trainers import report
from trainers.report import accuracy, charts, gallery
from trainers.report.run_data import Estimate, MetricRow


class Page(HTMLParser):
    """Collects what a browser would act on: tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "line", "circle", "polyline", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_table_holds_the_numbers_of_the_probe(make_run) -> None:
    page = report.write(make_run()).read_text(encoding="utf-8")
    table = page[page.index("<table>") : page.index("</table>")]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", table))
    assert text.index("Proposer") < text.index("Coder") < text.index("Solver")
    assert "easy sampled 0.641 0.617 – 0.664 0.702 0.679 – 0.724 0.748 0.726 – 0.769" in text
    assert "base iteration 1 iteration 2 change items" in text
    assert "+0.107 ▲" in text
    assert "-0.109 ▼" in text
    assert "-0.004 " in text and "-0.004 ▼" not in text
    assert "Of 3 true metrics 1 rose and 1 fell" in page


def test_what_models_write_is_text_and_nothing_else(make_run) -> None:
    page = report.write(make_run(topic=HANDLER, caption=SCRIPT)).read_text(encoding="utf-8")
    parsed = Page(page)
    assert parsed.open == []
    names = {name for name, _ in parsed.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "base", "form", "rect"}
    assert not [a for _, attrs in parsed.tags for a in attrs if a.startswith("on")]
    assert html.escape(SCRIPT, quote=True) in page.replace("&#39;", "&#x27;")
    assert "\x00" not in page and "nonsense" in parsed.text


def test_warnings_are_listed_as_text_and_damage_is_named(make_run) -> None:
    run = make_run()
    assert 'id="warnings"' not in report.write(run).read_text(encoding="utf-8")
    said = {"iteration": 2, "stage": "solver", "step": 7, "text": f"kl rises {SCRIPT}"}
    (run / "warnings.jsonl").write_text(json.dumps(said) + "\n")
    page = report.write(run).read_text(encoding="utf-8")
    assert "script" not in {name for name, _ in Page(page).tags}
    section = page[page.index('<section id="warnings">') : page.index('<section id="curves">')]
    assert "kl rises" in section and "&lt;script&gt;" in section
    (run / "warnings.jsonl").write_text('{"step": 7}\n')
    with pytest.raises(UserError, match=r"warnings\.jsonl is damaged"):
        report.write(run)


def test_the_page_loads_nothing(make_run) -> None:
    page = report.write(make_run()).read_text(encoding="utf-8")
    for name, attrs in Page(page).tags:
        for key in ("src", "href", "srcset", "data", "poster", "xlink:href"):
            value = attrs.get(key) or ""
            assert value.startswith(("data:image/webp;base64,", "#")) or not value, (name, value)
    assert "url(" not in page and "@import" not in page
    assert "default-src 'none'" in page


def test_sections_show_curves_pictures_votes_and_failures(make_run) -> None:
    page = report.write(make_run()).read_text(encoding="utf-8")
    parsed = Page(page)
    # 2 iterations, 3 stages, 6 of the 9 episodes; a failed proposal has no picture.
    shown = [attrs for name, attrs in parsed.tags if name == "article"]
    assert len(shown) == 2 * 3 * 6
    assert sum(name == "img" for name, _ in parsed.tags) == 2 * 3 * 5 * 2
    # Three probe charts, and three metrics (one is null throughout) in each of three stages.
    assert page.count('class="chart probe"') == 3
    assert page.count('class="chart series"') == 9
    assert "(67 % of 3)" in page and "malformed xml" in page
    failures = page[page.index('<section id="failures">') :]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", failures))
    # 8 of 3 × 9 proposals and 24 of 3 × 8 × 3 codes in each iteration.
    assert "proposal missing_tag 3 11.1 % 3 11.1 %" in text
    assert "render malformed_xml 24 33.3 % 24 33.3 %" in text


def test_a_run_that_was_cut_off_is_reported_as_far_as_it_went(make_run) -> None:
    run = make_run()
    (run / "probe.json").unlink()
    metrics = run / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"iteration": 2, "sta')
    episodes = run / "episodes" / "iter-2-solver.jsonl"
    episodes.write_bytes(episodes.read_bytes()[:-50])
    page = report.write(run).read_text(encoding="utf-8")
    assert "probe.json is missing" in page
    assert "last line of metrics.jsonl is cut off" in page
    assert "last line of episodes/iter-2-solver.jsonl is cut off" in page
    assert "6 of 8 episodes" in page


def test_a_run_that_has_only_begun_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    page = report.write(tmp_path).read_text(encoding="utf-8")
    assert "No step has been logged yet" in page
    assert Page(page).open == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", "{", "config.json is damaged: expected a JSON object"),
        ("config.json", "[]", "found list"),
        ("probe.json", '{"metrics": {}}', "probe.json is damaged: expected"),
        (
            "probe.json",
            '{"iterations": [0, 1], "metrics": {"solver_x": []}}',
            "solver_x has 0 entries for 2 iterations",
        ),
        ("metrics.jsonl", '{"iteration": 1}\n', "damaged at line 1: expected the keys"),
        ("metrics.jsonl", "oops\n{}\n", "damaged at line 1"),
        ("episodes/iter-1-coder.jsonl", "{}\n", "iter-1-coder.jsonl, line 1"),
    ],
)
def test_a_damaged_file_is_named(make_run, name: str, content: str, said: str) -> None:
    run = make_run()
    (run / name).write_text(content)
    with pytest.raises(UserError, match=re.escape(said)):
        report.write(run)


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no config.json"):
        report.write(tmp_path)
    with pytest.raises(UserError, match="not a directory"):
        report.write(tmp_path / "absent")


def test_the_interval_of_a_change_is_newcombes() -> None:
    # Wilson intervals of 56/70 and 48/80; the published answer of method 10 is
    # .0524 to .3339 (Newcombe 1998, Table II, column a).
    after = Estimate(56 / 70, *wilson(56, 70), 70)
    before = Estimate(48 / 80, *wilson(48, 80), 80)
    change = accuracy.unpaired(before, after)
    assert change.delta == pytest.approx(0.2)
    assert change.low == pytest.approx(0.0524, abs=5e-5)
    assert change.high == pytest.approx(0.3339, abs=5e-5)
    assert change.verdict == "up"
    assert accuracy.unpaired(after, before).verdict == "down"
    assert accuracy.unpaired(before, before).verdict == "same"


def test_a_paired_change_is_taken_where_the_probe_kept_it(make_run) -> None:
    run = make_run()
    probe = json.loads((run / "probe.json").read_text())
    none = {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 300}
    paired = {"mean": -0.004, "low": -0.007, "high": -0.001, "n": 300}
    probe["change"] = {"proposer_valid": [none, none, paired]}
    (run / "probe.json").write_text(json.dumps(probe))
    data = report.load(run)
    assert data.probe is not None
    verdicts = {row.metric: row.change and row.change.verdict for row in accuracy.rows(data.probe)}
    assert verdicts == {
        "proposer_valid": "down",
        "coder_render_rate": "down",
        "solver_easy_sampled": "up",
    }


def wilson(hits: int, n: int) -> tuple[float, float]:
    z = 1.959964
    centre, spread = 2 * hits + z * z, z * math.sqrt(z * z + 4 * hits * (1 - hits / n))
    return (centre - spread) / (2 * (n + z * z)), (centre + spread) / (2 * (n + z * z))


def test_episodes_are_spread_over_the_ranking() -> None:
    ranking = [(float(n), n) for n in range(11)]
    assert gallery.spread(ranking, 3) == [10, 5, 0]
    assert gallery.spread(ranking, 1) == [10]
    assert gallery.spread(ranking[:2], 3) == [1, 0]
    assert gallery.spread([(-math.inf, 0), (0.0, 1)], 2) == [1, 0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (-0.3, 0.3, [-0.2, 0.0, 0.2]),
        (1e-5, 9e-5, [2.5e-5, 5e-5, 7.5e-5]),
        (980.0, 1010.0, [980.0, 990.0, 1000.0, 1010.0]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == pytest.approx(expected)


def test_numbers_are_short() -> None:
    shown = [charts.number(v) for v in (0.0, 0.5, -0.125, 12.0, 1234.0, 3.2e-7, 2.5e6)]
    assert shown == ["0", "0.5", "-0.125", "12", "1234", "3.2e-7", "2.5e6"]


def test_a_long_curve_is_thinned_without_losing_its_mean() -> None:
    rows = [MetricRow(1, "coder", n, {"reward": float(n % 10)}) for n in range(5000)]
    chart = charts.by_step(rows, "coder", "reward")
    assert chart is not None
    assert chart.summary == "Mean by iteration: iteration 1 4.5."
    points = re.search(r'points="([^"]+)"', chart.svg)
    assert points is not None and len(points[1].split()) <= charts.MAX_POINTS
    assert charts.by_step(rows, "coder", "absent") is None
    assert charts.by_step(rows, "solver", "reward") is None


BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on this machine")
def test_a_browser_opens_it_without_a_complaint_and_runs_nothing(make_run, tmp_path) -> None:
    path = report.write(make_run(topic=HANDLER, caption=SCRIPT))
    done = subprocess.run(
        [
            str(BROWSER),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "<title>demo-run · MM-Zero run</title>" in done.stdout
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<article") == 36


def test_the_template_needs_no_setting_in_particular(make_run) -> None:
    run = make_run()
    (run / "config.json").write_text(json.dumps({"anything": [1, {"else": None}]}))
    assert "anything" in report.write(run).read_text(encoding="utf-8")
