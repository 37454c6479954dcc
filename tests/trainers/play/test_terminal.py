from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

import agents
from mmzero_env.episode import Episode
from mmzero_env.protocol import Completion, Drawing, Failure, Proposal, Response
from mmzero_env.record import EpisodeRecord, read_records
from mmzero_env.rendering import Renderer
from trainers import cli
from trainers.play import half_blocks
from trainers.play.events import Coded, Drawn, Proposed, Scored, ToldEpisode
from trainers.play.game import Game
from trainers.play.keeping import Keeper
from trainers.play.settings import HUMAN, settle
from trainers.play.terminal import Terminal

ORACLE = ["play", *(f"--{role}=scripted:oracle" for role in ("proposer", "coder", "solver"))]
SCRIPTED = dict.fromkeys(("proposer", "coder", "solver"), "scripted:oracle")
TRICKS = Proposal("other", "[bold]red\x1b[31m\x07", "is it \ud800?", "\x9b2J", "a\rb", "\u202e7")


def console(**options) -> Console:
    return Console(file=io.StringIO(), width=90, height=40, highlight=False, **options)


def shown(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


def test_an_episode_is_shown_from_the_topic_to_the_terms_of_the_rewards(tmp_path, capsys):
    out_dir = tmp_path / "kept"
    assert cli.main([*ORACLE, "--out", str(out_dir)]) == 0
    out = capsys.readouterr().out
    marks = ["topic:", "Proposal", "caption:", "Code 1 of 2", "<svg", "Picture 1: 448 × 448"]
    marks += ["Answers about picture 1, easy", "I see", "Votes", "true answer"]
    marks += ["Rewards\n  Proposer: ", "Coder, picture 2: ", "Solver, picture 2, hard"]
    places = [out.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "\x1b" not in out
    assert f"written: {out_dir / 'play-0-picture-2.png'}" in out
    assert re.search(r"Solver, picture 1, easy, answer 1, 2, 3, 4, 5: \+1\.00 \(accuracy \+0", out)


def played(seed: int) -> tuple[str, EpisodeRecord]:
    on = console()
    settings = settle(dict.fromkeys(SCRIPTED, "scripted:noisy"), codes=1, answers=2)
    with (
        Renderer(settings.image_size, workers=0) as renderer,
        Game(settings, renderer, None) as game,
    ):
        record = game.play(seed, settings.topic_of(seed), Terminal(on, settings).tell)
    return shown(on), record


def test_the_same_seed_and_agents_give_the_same_episode():
    assert played(5) == played(5)
    assert played(5) != played(6)


def test_what_is_kept_can_be_replayed_and_is_never_written_over(tmp_path, capsys):
    _, record = played(5)
    keeper = Keeper(tmp_path / "new" / "kept")
    first, second = keeper.keep(record), keeper.keep(record)
    assert [path.name for path in first] == ["play-5.jsonl", "play-5-picture-1.png"]
    assert [path.name for path in second] == ["play-5-2.jsonl", "play-5-2-picture-1.png"]
    [kept] = read_records(first[0])
    assert kept == record
    assert kept["codes"][0]["png"] == first[1].read_bytes()
    assert cli.main(["replay", str(first[0])]) == 0
    assert "1 episodes replayed: 1 identical" in capsys.readouterr().out


def test_out_that_is_a_file_is_refused_before_anything_is_played(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert cli.main([*ORACLE, "--out", str(tmp_path / "file")]) == 2
    streams = capsys.readouterr()
    assert "expected a writable directory" in streams.err and streams.out == ""


def test_a_person_without_a_terminal_is_told_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("A\n"))
    assert cli.main(["play", "--coder", HUMAN]) == 2
    err = capsys.readouterr().err
    assert "run it in a terminal, or add --page" in err


@pytest.mark.parametrize(
    "words", [["--port", "8000"], ["--open"], ["--page", "--editor", "vi"], ["--image-size", "0"]]
)
def test_options_that_do_not_go_together_are_refused(words, capsys):
    assert cli.main([*ORACLE, *words]) == 2
    assert "error: " in capsys.readouterr().err


class Broken:
    name = "broken"

    def generate(self, requests):
        if requests[0].role == "coder":
            raise agents.PolicyError("the model server answers 503")
        return [Response(r.id, (Completion("x"),) * r.n) for r in requests]


def test_a_failing_agent_ends_it_with_the_reason_last(capsys):
    agents.register("broken", lambda argument: Broken())
    assert cli.main([*ORACLE[:2], "--coder=broken", "--solver=scripted:oracle"]) == 1
    err = capsys.readouterr().err.strip().splitlines()
    assert err[-1].startswith("error: the model server answers 503")


def test_model_text_is_neither_markup_nor_a_command_to_the_terminal():
    on = console(force_terminal=True, color_system="truecolor")
    terminal = Terminal(on, settle(SCRIPTED))
    terminal.tell(Proposed("\x1b]0;title\x07", TRICKS))
    terminal.tell(Coded(0, "\x1b[2J<svg", None))
    terminal.rest()
    text = shown(on)
    assert "[bold]red" in text
    # Only the colours that rich itself sets.
    assert set(re.findall(r"\x1b[^m]{0,12}m?", text)) <= set(re.findall(r"\x1b\[[\d;]*m", text))
    assert not set(text) & set("\x07\x9b\r\ud800")
    text.encode()


def test_a_narrow_encoding_gets_escapes_instead_of_a_crash():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    terminal = Terminal(Console(file=stream, width=90), settle(SCRIPTED))
    terminal.tell(
        Drawn(
            0,
            Drawing(None, Failure("render", "blank", "größe")),
        )
    )
    stream.flush()
    assert b"gr\\xf6\\xdfe" in stream.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_picture_is_half_blocks_of_its_colours_where_the_console_can():
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4] = (255, 0, 0)
    image[4:] = (0, 0, 255)
    text = half_blocks.drawn(image, 4)
    assert text.plain == "\n".join(["▀▀▀▀"] * 2)
    on = console(force_terminal=True, color_system="truecolor")
    Terminal(on, settle(SCRIPTED)).tell(Drawn(0, Drawing(image)))
    assert "38;2;255;0;0" in shown(on) and "48;2;0;0;255" in shown(on) and "▀" in shown(on)
    off = console()
    Terminal(off, settle(SCRIPTED)).tell(Drawn(0, Drawing(image)))
    assert "8 × 8 pixels" in shown(off) and "▀" not in shown(off)


def test_a_picture_fits_into_a_small_window():
    small = Console(file=io.StringIO(), width=30, height=12, force_terminal=True)
    assert half_blocks.columns(small) == 16


def test_what_gives_the_answer_away_is_shown_after_it_is_given():
    settings = settle({**SCRIPTED, "solver": HUMAN})
    proposal = Proposal("map", "secret caption", "easy?", "secret 1", "hard?", "secret 2")
    on = console()
    terminal = Terminal(on, settings)
    told = ToldEpisode(Episode("e", "map", 0, settings.config, proposal), terminal.tell)
    terminal.tell(Proposed("", proposal))
    told.submit("e/coder", [Completion("```svg\n<svg>secret</svg>\n```")] * settings.config.codes)
    for job in told.pending_renders():
        told.draw(job.id, Drawing(None, Failure("render", "blank")))
    assert "easy?" in shown(on) and "secret" not in shown(on)
    outcome = told.outcome()
    [rewards] = settings.design.score([outcome])
    terminal.tell(Scored(outcome, rewards, {}))
    assert all(f"secret {what}" in shown(on) for what in ("caption", "1", "2"))
