from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from mmzero_env.record import write_records
from tests.trainers.synthetic_run import world_episode, write_world_run
from trainers import report

Open = Callable[[Path], Chrome]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_world_run(tmp_path_factory.mktemp("runs") / "world")
    report.write(run)
    return run


@pytest.fixture
def opened(chromium: Chrome) -> Iterator[Open]:
    def open_page(path: Path) -> Chrome:
        chromium.get("about:blank")
        chromium.get_log("browser")
        chromium.get(path.as_uri())
        return chromium

    yield open_page
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def shown(page: Chrome) -> set[str]:
    cards = page.execute_script(
        "return [...document.querySelectorAll('details.card')]"
        ".filter(c => c.getClientRects().length).map(c => c.id)"
    )
    return set(cards)


def choose(page: Chrome, name: str, value: str) -> None:
    select = Select(page.find_element(By.NAME, name))
    place = [each.get_attribute("value") for each in select.options].index(value)
    select.select_by_index(place)


def soon(page: Chrome, holds: Callable[[], bool]) -> bool:
    """Whether something holds within seconds: a browser answers a click when it comes to it."""
    return WebDriverWait(page, 10).until(lambda _: holds())


def episodes(*numbers: int) -> set[str]:
    return {f"e-w-{n}" for n in numbers}


def test_a_report_opens_without_a_complaint(opened: Open, run: Path) -> None:
    page = opened(run / "report.html")
    assert page.title == "world · MM-Zero run"
    assert page.get_log("browser") == []
    assert len(shown(page)) == 20
    picture = page.find_element(By.CSS_SELECTOR, ".card .pic[role=img]")
    assert picture.value_of_css_property("background-image").startswith('url("data:image/')
    assert picture.size["width"] > 100


def test_filters_show_what_they_name(opened: Open, run: Path) -> None:
    page = opened(run / "report.html")
    count = page.find_element(By.ID, "count")
    assert count.text == "20 of 20 shown"
    choose(page, "iteration", "1")
    assert soon(page, lambda: count.text == "10 of 20 shown") and len(shown(page)) == 10
    headings = [h.text for h in page.find_elements(By.CSS_SELECTOR, "#gallery h3") if h.text]
    assert len(headings) == 1 and "Iteration 1" in headings[0]
    for name, value, expected in (
        ("label", "wrong", episodes(101)),
        ("leaked", "yes", episodes(102)),
        ("drawn", "some", episodes(103)),
        ("drawn", "none", {*episodes(104), "e-f-1"}),
        ("type", "data_chart", episodes(*range(100, 109))),
        ("stage", "proposer", {*episodes(*range(100, 109)), "e-f-1"}),
    ):
        choose(page, name, value)
        assert soon(page, lambda expected=expected: shown(page) == expected), name
        choose(page, name, "")
    page.find_element(By.NAME, "least").send_keys("0.3")
    page.find_element(By.NAME, "most").send_keys("0.5")
    assert soon(page, lambda: shown(page) == episodes(103, 104, 105))
    choose(page, "label", "right")
    assert soon(page, lambda: shown(page) == episodes(103, 105))
    page.find_element(By.CSS_SELECTOR, "#filters button[type=reset]").click()
    assert soon(page, lambda: count.text == "20 of 20 shown")
    assert page.get_log("browser") == []


def test_an_episode_opens_and_closes_by_keyboard(opened: Open, run: Path) -> None:
    page = opened(run / "report.html")
    card = page.find_element(By.ID, "e-w-101")
    assert not card.find_element(By.CSS_SELECTOR, ".waterfall").is_displayed()
    page.execute_script("arguments[0].focus()", card.find_element(By.TAG_NAME, "summary"))
    ActionChains(page).send_keys(Keys.ENTER).perform()
    assert card.get_attribute("open") is not None
    assert card.find_element(By.CSS_SELECTOR, ".waterfall").is_displayed()
    text = card.text
    for part in ("Proposal", "Code 1", "2 answers, hard question", "I count 101", "✗ false"):
        assert part in text
    bars = card.find_elements(By.CSS_SELECTOR, ".waterfall .bar i")
    assert max(bar.size["width"] for bar in bars) > 40
    ActionChains(page).send_keys(Keys.TAB, Keys.ESCAPE).perform()
    assert card.get_attribute("open") is None
    assert page.switch_to.active_element.tag_name == "summary"


def test_the_first_key_leads_to_the_content(opened: Open, run: Path) -> None:
    page = opened(run / "report.html")
    ActionChains(page).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert page.switch_to.active_element.get_attribute("id") == "main"


def test_a_link_opens_its_episode_even_one_that_is_filtered_out(opened: Open, run: Path) -> None:
    page = opened(run / "report.html")
    page.get(f"{(run / 'report.html').as_uri()}#e-w-203")
    page.refresh()
    assert page.find_element(By.ID, "e-w-203").get_attribute("open") is not None
    choose(page, "label", "wrong")
    link = page.find_element(By.CSS_SELECTOR, ".strip a")
    target = (link.get_attribute("href") or "").partition("#")[2]
    assert soon(page, lambda: target not in shown(page))
    page.execute_script("arguments[0].click()", link)
    card = page.find_element(By.ID, target)
    assert soon(page, lambda: card.get_attribute("open") is not None)
    top = page.execute_script("return arguments[0].getBoundingClientRect().top", card)
    assert target in shown(page) and 0 <= top < 200
    assert page.get_log("browser") == []


def test_without_scripts_everything_is_there(opened: Open, chromium: Chrome, run: Path) -> None:
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page = opened(run / "report.html")
    assert not page.find_element(By.ID, "filters").is_displayed()
    cards = page.find_elements(By.CSS_SELECTOR, "details.card")
    assert len(cards) == 20 and all(card.is_displayed() for card in cards)
    cards[0].find_element(By.TAG_NAME, "summary").click()
    assert "Code 1" in cards[0].text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_in_any_light(opened: Open, run: Path, dark: bool) -> None:
    page = opened(run / "report.html")
    screen = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    ratios = page.execute_script(CONTRAST)
    assert len(ratios) > 12
    assert min(ratios.values()) >= 4.5, {k: v for k, v in ratios.items() if v < 4.5}
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(20, 22, 26)") is dark


# Contrast of every text with what lies behind it, by the formula of WCAG 2.2, success
# criterion 1.4.3: (L1 + 0.05) / (L2 + 0.05) of the relative luminances; text needs 4.5.
CONTRAST = """
const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (each) => {
  for (; each; each = each.parentElement) {
    const color = numbers(getComputedStyle(each).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
};
const found = {};
for (const each of document.querySelectorAll("main *")) {
  const own = [...each.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || !each.getClientRects().length || each.closest("svg, select, .pic[role]")) continue;
  const [a, b] = [luminance(numbers(getComputedStyle(each).color)), luminance(behind(each))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const name = `${each.tagName}.${each.className}`;
  found[name] = Math.min(ratio, found[name] ?? 99);
}
return found;
"""

TAKEOVER = "document.title='taken over'"
PAYLOADS = (
    f"</script><script>{TAKEOVER}</script>",
    f'"><img src=x onerror="{TAKEOVER}">',
    f'\'><svg onload="{TAKEOVER}">',
    f"</style><script>{TAKEOVER}</script>",
    f"</details><details open ontoggle={TAKEOVER}>",
    f"{{{{ ''.__class__ }}}}<iframe srcdoc='<script>parent.{TAKEOVER}</script>'>",
    f'<a id=filters href="javascript:{TAKEOVER}">x</a>',
    "<!--<script>",
)


def hostile_run(folder: Path) -> Path:
    """Every text of a run is an attack."""
    run = write_world_run(folder / "'><img src=x onerror=document.title=1>", iterations=1)
    rng = np.random.default_rng(0)
    records = []
    for n, attack in enumerate(PAYLOADS):
        record = world_episode(n, rng, topic=attack)
        assert record["proposal"] is not None
        for key in record["proposal"]:
            record["proposal"][key] = attack
        record["proposal_text"] = attack
        record["id"] = attack
        record["reward"]["terms"][attack] = 0.5
        for code in record["codes"]:
            code["text"] = code["code"] = f"<svg xmlns='http://www.w3.org/2000/svg'>{attack}</svg>"
            code["flags"] = [attack]
            code["answers"] = {q: [attack] * 2 for q in code["answers"]}
            code["votes"]["hard"]["winner"] = attack
        record["codes"][1] |= {
            "png": None,
            "failure": {"stage": attack, "reason": attack, "detail": attack},
        }
        records.append(record)
    write_records(run / "episodes" / "iter-2-proposer.jsonl", records)
    warning = {"iteration": 1, "stage": "coder", "step": 1, "text": " ".join(PAYLOADS)}
    (run / "warnings.jsonl").write_text(json.dumps(warning) + "\n")
    row = {"iteration": 1, "step": 1} | {attack: 0.5 for attack in PAYLOADS}
    lines = [json.dumps(row | {"stage": attack}) for attack in PAYLOADS]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (run / "config.json").write_text(json.dumps({a: a for a in ("seed", "model", *PAYLOADS)}))
    estimate = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}
    metrics = {f"solver_{a}": [estimate] * 2 for a in PAYLOADS} | {PAYLOADS[0]: [estimate] * 2}
    probe = {"iterations": [0, 1], "metrics": metrics}
    (run / "probe.json").write_text(json.dumps(probe))
    return run


def test_nothing_that_a_model_wrote_ever_runs(opened: Open, tmp_path: Path) -> None:
    run = hostile_run(tmp_path)
    page = opened(report.write(run).path)
    title = page.title
    assert title == f"{run.name} · MM-Zero run"
    # Open everything, use every filter, follow what can be followed.
    page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    count = page.find_element(By.ID, "count")
    for option in page.find_elements(By.CSS_SELECTOR, "#filters [name=type] option")[1:]:
        choose(page, "type", option.get_attribute("value") or "")
        assert soon(page, lambda: count.text not in ("18 of 18 shown", "0 of 18 shown"))
    choose(page, "type", "")
    time.sleep(0.3)
    assert page.title == title
    assert page.execute_script("return document.querySelectorAll('script').length") == 1
    assert not page.find_elements(By.CSS_SELECTOR, "main img, main iframe, a[href^=javascript]")
    # Not even the policy had anything to stop.
    assert page.get_log("browser") == []
    text = page.find_element(By.ID, "gallery").text
    assert all(attack in text for attack in PAYLOADS)


def test_the_policy_stops_a_script_that_escaping_would_have_let_through(
    opened: Open, run: Path, tmp_path: Path
) -> None:
    page_text = (run / "report.html").read_text(encoding="utf-8")
    attack = f'<script>{TAKEOVER}</script><img src="x" onerror="{TAKEOVER}">'
    (tmp_path / "torn.html").write_text(page_text.replace("<main", f"{attack}<main", 1))
    page = opened(tmp_path / "torn.html")
    time.sleep(0.3)
    assert page.title == "world · MM-Zero run"
    said = " ".join(entry["message"] for entry in page.get_log("browser"))
    assert said.count("Content Security Policy") >= 3
    assert len(shown(page)) == 20


def test_a_watched_page_renews_itself_and_stays_as_it_was_left(
    opened: Open, tmp_path: Path
) -> None:
    run = write_world_run(tmp_path / "live")
    path = report.write(run, refresh=0.5).path
    page = opened(path)
    choose(page, "iteration", "2")
    card = page.find_element(By.ID, "e-w-205")
    page.execute_script("arguments[0].open = true; arguments[0].scrollIntoView()", card)
    page.execute_script("document.activeElement.blur()")
    place = "return document.getElementById('e-w-205').getBoundingClientRect().top"
    top = page.execute_script(place)
    # A new row of cards above the one that is read.
    fresh = [world_episode(n, np.random.default_rng(n)) for n in range(395, 400)]
    write_records(run / "episodes" / "iter-2-proposer.jsonl", fresh)
    # The last report is watched no longer, and yet it opens where the reader was.
    report.write(run)
    live = "return document.documentElement.dataset.refresh"
    assert soon(page, lambda: page.execute_script(live) is None)
    card = page.find_element(By.ID, "e-w-205")
    assert card.get_attribute("open") is not None
    assert page.find_element(By.NAME, "iteration").get_attribute("value") == "2"
    assert "e-w-105" not in shown(page) and {"e-w-205", "e-w-399"} <= shown(page)
    assert soon(page, lambda: page.execute_script(place) == pytest.approx(top, abs=2))
    assert page.get_log("browser") == []
