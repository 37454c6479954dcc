from __future__ import annotations

import json
import threading

import numpy as np

import agents
from mmzero_env.episode import Episode
from mmzero_env.protocol import Drawing, Failure
from trainers.play.board import Board
from trainers.play.events import Scored, ToldEpisode
from trainers.play.page_person import PagePerson
from trainers.play.settings import HUMAN, PlaySettings, settle


class Table:
    """A board, and an episode that is played on it by hand."""

    def __init__(self, design: str = "mm_zero", **players: str) -> None:
        usual = dict.fromkeys(("proposer", "coder", "solver"), "scripted:oracle")
        self.settings: PlaySettings = settle(usual | players, design=design, codes=2, answers=1)
        self.board = Board(self.settings)
        self.person = self.board.person = PagePerson(self.board.changed)
        episode = Episode("play-0", "geometry", 2**60, self.settings.config)
        self.episode = ToldEpisode(episode, self.board.tell)
        self.oracle = agents.make("scripted:oracle")

    def state(self):
        return self.board.state(-1, 0)

    def step(self) -> None:
        """Answers the first open request, or draws one code and refuses the next."""
        for number, job in enumerate(self.episode.pending_renders()):
            red = Drawing(np.full((4, 4, 3), (255, 0, 0), np.uint8), flags=("a_flag",))
            self.episode.draw(job.id, Drawing(None, Failure("render", "blank")) if number else red)
            return
        request = self.episode.open_requests()[0]
        [response] = self.oracle.generate([request])
        self.episode.submit(request.id, response.completions)

    def score(self) -> None:
        outcome = self.episode.outcome()
        [rewards] = self.settings.design.score([outcome])
        self.board.tell(Scored(outcome, rewards, {"easy": "no such"}))
        self.board.finish(["a file"])


def test_a_board_shows_who_is_at_work_and_what_came_of_it():
    table = Table()
    state = table.state()
    assert state["phase"] == "playing" and state["episode"]["seed"] == str(2**60)
    assert [each["role"] for each in state["thinking"]] == ["proposer"]
    table.step()
    state = table.state()
    assert state["episode"]["proposal"]["fields"]["caption"]
    assert state["thinking"][0]["doing"] == "writing 2 codes"
    table.step()
    assert [code["drawing"] for code in table.state()["episode"]["codes"]] == [None, None]
    while not table.episode.finished:
        table.step()
    assert table.state()["thinking"] == []
    table.score()
    state = table.state()
    first = state["episode"]["codes"][0]
    assert first["drawing"]["picture"].startswith("data:image/png;base64,")
    assert first["drawing"]["flags"] == ["a_flag"]
    assert first["reward"]["value"] == sum(term["value"] for term in first["reward"]["terms"])
    assert first["answers"]["easy"][0]["reward"]["value"] == 1
    assert first["votes"]["hard"]["total"] == 1
    assert state["episode"]["truth"] == {"easy": {"answer": "no such", "right": False}}
    assert state["written"] == ["a file"]


def test_what_gives_the_answer_away_is_not_sent_to_a_person_who_solves():
    table = Table(solver=HUMAN)
    while not (asked := [r for r in table.episode.open_requests() if r.role == "solver"]):
        table.step()
    table.person.submit(asked[0])
    state = table.state()
    fields = state["episode"]["proposal"]["fields"]
    assert set(fields) == {"content_type", "easy_question", "hard_question"}
    assert state["ask"]["question"] == fields["easy_question"]
    assert state["ask"]["picture"].startswith("data:image/png;base64,")
    proposal = asked[0].proposal
    assert proposal is not None
    sent = json.dumps(state)
    assert "<svg" not in sent and proposal.caption not in sent and "answer>" not in sent
    while not table.episode.finished:
        table.step()
    table.score()
    assert table.state()["episode"]["proposal"]["fields"]["caption"] == proposal.caption


def test_answers_without_a_picture_have_a_card_of_their_own():
    table = Table(design="audited")
    while not table.episode.finished:
        table.step()
    table.score()
    card = table.state()["episode"]["unseen"]["blind"]
    assert card["title"] == "Answers without picture and caption"
    assert card["votes"]["hard"]["total"] == len(card["answers"]["hard"]) == 1


def test_whoever_waits_for_news_gets_them_at_once():
    table = Table()
    known = table.state()["version"]
    assert table.board.state(known, 0.01)["version"] == known
    threading.Timer(0.05, table.step).start()
    assert table.board.state(known, 30)["version"] > known


def test_the_next_episode_begins_once_and_only_when_this_one_is_over():
    table = Table()
    assert not table.board.leave()
    table.board.finish([])
    assert table.board.leave()
    assert not table.board.leave()
