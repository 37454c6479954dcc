from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

import agents
from mmzero_env.errors import EngineError
from mmzero_env.record import read_records
from trainers.play import page
from trainers.play.settings import settle

RUN = "<img src=x onerror=window.ran=1><script>window.ran=1</script>"
BARS = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 40 40'>"
    "<rect width='40' height='40' fill='{colour}'/>{more}</svg>"
)

Serve = Callable[..., tuple["subprocess.Popen[str]", str]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainers.cli", "play", "--page", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ, PYTHONPATH=str(Path.cwd())),
        )
        running.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline().removeprefix("Open ").strip()

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Page:
    """The page as a person uses it."""

    def __init__(self, chrome: Chrome, url: str) -> None:
        self.chrome = chrome
        chrome.get_log("browser")
        chrome.get(url)

    def __call__(self, id: str) -> WebElement:
        return self.chrome.find_element(By.ID, id)

    def until(self, happens: Callable[[], Any]) -> None:
        WebDriverWait(self.chrome, 30, 0.05).until(lambda _: happens(), self.text())

    def turn(self, title: str) -> None:
        self.until(lambda: self("turn-title").text == title)

    def text(self) -> str:
        return self.chrome.find_element(By.TAG_NAME, "main").text

    def submit(self, role: str) -> None:
        self(f"form-{role}").find_element(By.CSS_SELECTOR, ".buttons button").click()

    def js(self, script: str) -> Any:
        return self.chrome.execute_script(f"return {script}")

    def sane(self) -> None:
        """What holds at every moment: quiet, closed, labelled, nothing that came as markup."""
        assert self.chrome.get_log("browser") == []
        assert self.js("window.ran") is None
        assert (
            self.js("document.querySelectorAll('svg, iframe, object, script:not([src])').length")
            == 0
        )
        sources = self.js("[...document.images].map((image) => image.getAttribute('src') || '')")
        assert all(
            source == "" or source.startswith("data:image/png;base64,") for source in sources
        )
        loaded = self.js("performance.getEntriesByType('resource').map((entry) => entry.name)")
        origin = self.js("location.origin")
        assert all(name.startswith((origin, "data:")) for name in loaded)
        fields = "[...document.querySelectorAll('input, select, textarea')]"
        assert self.js(f"{fields}.every((field) => field.labels.length)")
        assert self.js("[...document.images].every((image) => image.alt)")

    def fits(self, width: int) -> bool:
        """Whether nothing has to be scrolled sideways in a window of that width."""
        command = "Emulation.setDeviceMetricsOverride"
        phone = {"width": width, "height": 700, "deviceScaleFactor": 2, "mobile": True}
        self.chrome.execute_cdp_cmd(command, phone)
        fits = self.js("document.scrollingElement.scrollWidth <= window.innerWidth")
        assert self.js("window.innerWidth") == width
        self.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        return fits


def test_a_person_plays_all_three_roles_and_nothing_that_is_typed_ever_runs(
    chromium, serve, tmp_path
):
    words = [f"--{role}=human" for role in ("proposer", "coder", "solver")]
    process, url = serve(*words, "--out", str(tmp_path), "--image-size", "64")
    at = Page(chromium, url)

    at.turn("You are the Proposer")
    assert chromium.switch_to.active_element == at("turn-title")
    at.submit("proposer")
    at.until(lambda: at("caption").get_attribute("aria-invalid"))
    assert chromium.switch_to.active_element == at("caption")
    mistake = at("caption").get_attribute("aria-describedby")
    assert at(mistake).text == "Please fill this in."
    at.sane()
    assert at.fits(360)
    values = {
        "caption": f"A red square. {RUN}",
        "easy_question": f"What colour? {RUN}",
        "easy_answer": "red",
        "hard_question": "How many corners?",
        "hard_answer": "4",
    }
    for name, value in values.items():
        at(name).send_keys(value)
    chromium.refresh()
    at.turn("You are the Proposer")
    assert at("hard_answer").get_property("value") == "4", "a draft outlives a reload"
    at("hard_answer").send_keys(Keys.ENTER)

    at.turn("You are the Coder")
    note, svg = at("preview-note"), at("svg")
    at.until(lambda: at("preview").is_displayed())
    blank = at("preview").get_attribute("src")
    svg.clear()
    svg.send_keys(BARS.format(colour="red", more="<script>window.ran=1</script>"))
    at.until(lambda: at("preview").get_attribute("src") != blank)
    at.until(lambda: "script" in note.text)
    svg.send_keys("<")
    at.until(lambda: note.text.startswith("Not drawn. malformed xml: "))
    assert "old" in at("preview").get_attribute("class")
    assert at.fits(360)
    at.sane()
    svg.clear()
    svg.send_keys(BARS.format(colour="red", more=f"<g onload='window.ran=1'>{RUN[-31:]}</g>"))
    at.until(lambda: "old" not in at("preview").get_attribute("class"))
    svg.send_keys(Keys.CONTROL, Keys.ENTER)

    at.turn("You are the Solver: easy question")
    assert at("seen").get_property("naturalWidth") == 64
    assert at("question").text == values["easy_question"]
    at("reasoning").send_keys(f"</p>{RUN}")
    at("answer").send_keys(f"red{RUN}", Keys.ENTER)
    at.turn("You are the Solver: hard question")
    assert at("answer").get_property("value") == ""
    at.sane()
    assert at.fits(360)
    at("answer").send_keys("4", Keys.ENTER)

    at.until(lambda: at("status").text.startswith("The episode is over. Written: "))
    assert all(part in at.text() for part in (RUN, "Coder’s reward", "vote 4 (100 % of 1)"))
    at.sane()
    assert at.fits(360)
    [record] = read_records(tmp_path / "play-0.jsonl")
    assert record["proposal"] is not None and record["proposal"]["caption"] == values["caption"]
    assert record["codes"][0]["answers"]["hard"] == ["<think></think>\\boxed{4}"]

    assert at("seed").get_property("value") == "1"
    at("seed").send_keys("x")
    at.submit("next")
    at.until(lambda: at("seed").get_attribute("aria-invalid"))
    at("seed").send_keys(Keys.BACKSPACE, Keys.ENTER)
    at.until(lambda: "seed 1" in at("facts").text)
    at.turn("You are the Proposer")
    at("skip").click()
    at.until(lambda: at("status").text == "You gave the episode up.")
    at.sane()

    process.send_signal(signal.SIGINT)
    at.until(lambda: at("status").text.startswith("mmzero play has ended."))
    assert process.wait(30) == 0
    with pytest.raises(Exception, match="TrustedHTML"):
        at.js("document.body.innerHTML = '<b>no markup, not even by mistake</b>'")


def test_agents_play_by_themselves_and_the_next_episode_is_another_one(chromium, serve):
    words = [f"--{role}=scripted:oracle" for role in ("proposer", "coder", "solver")]
    _, url = serve(*words, "--topic", "visual text recognition and OCR")
    at = Page(chromium, url)
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    at.until(lambda: at("status").text == "The episode is over.")
    background = at.js("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in background[4:-1].split(",")) < 64
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    first = at.text()
    assert first.count("Coder’s reward") == 2 and "truth: " in first
    assert not chromium.find_elements(By.ID, "skip")
    at.sane()
    assert at.fits(360)
    at.submit("next")
    at.until(lambda: "seed 1" in at("facts").text and at("status").text == "The episode is over.")
    assert "visual text recognition" in at("facts").text
    assert at.text() != first
    at.sane()


class Broken:
    name = "broken-coder"

    def generate(self, requests):
        raise agents.PolicyError("the model server answers 503")


def test_the_page_says_why_it_stopped_when_an_agent_fails(capsys):
    gate = threading.Event()

    class Waits(Broken):
        def generate(self, requests):
            assert gate.wait(30)
            return super().generate(requests)

    agents.register("broken-coder", lambda argument: Waits())
    settings = settle(
        {"proposer": "scripted:oracle", "coder": "broken-coder", "solver": "scripted:oracle"}
    )
    raised: list[BaseException] = []

    def play() -> None:
        try:
            page.run(settings, None, port=0, show=False)
        except EngineError as error:
            raised.append(error)

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    printed = ""
    while "\n" not in printed:
        printed += capsys.readouterr().out
    url = printed.removeprefix("Open ").strip()

    def state(after: int) -> dict[str, Any]:
        with urllib.request.urlopen(f"{url}state?after={after}", timeout=30) as answer:
            return json.load(answer)

    seen = state(-1)
    while not any(each["role"] == "coder" for each in seen["thinking"]):
        seen = state(seen["version"])
    assert seen["thinking"] == [
        {"role": "coder", "agent": "broken-coder", "doing": "writing 2 codes"}
    ]
    threading.Timer(0.1, gate.set).start()
    while seen["phase"] != "ended":
        seen = state(seen["version"])
    assert seen["error"].startswith("the model server answers 503")
    thread.join(30)
    assert len(raised) == 1 and str(raised[0]) == seen["error"]
