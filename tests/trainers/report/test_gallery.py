from __future__ import annotations

import math
import weakref
from pathlib import Path

import numpy as np
import pytest

from mmzero_env.record import convert, image_to_png, read_records, write_records
from tests.trainers.synthetic_run import picture, world_episode, write_world_run
from trainers.report import gallery, pictures, scan, strip
from trainers.report.pictures import Pictures
from trainers.report.scan import EpisodeFile, Scan, Scanner, stage_reward

ROOM = 10_000_000


def collected(run: Path, room: int = ROOM) -> gallery.Gallery:
    return gallery.collect(Scanner().scan(run / "episodes"), room)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_world_run(tmp_path / "run")


def scanned(rewards: list[float], outcomes: list[str]) -> Scan:
    return Scan(EpisodeFile(1, "coder", Path("x.jsonl")), rewards, outcomes)


def test_choice_has_every_outcome_and_the_ends_of_the_ranking() -> None:
    outcomes = ["label right"] * 100
    outcomes[40], outcomes[41] = "no picture", "label wrong"
    seen = scanned([float(n) for n in range(100)], outcomes)
    chosen = gallery.choose(seen, 8, fixed=[7])
    assert chosen[0] == 7 and len(chosen) == 9
    assert {40, 41, 99, 0} <= set(chosen)
    rest = sorted(set(chosen) - {7, 40, 41})
    assert max(b - a for a, b in zip(rest, rest[1:], strict=False)) <= 30
    assert gallery.choose(seen, 1) in ([40], [41])
    assert len(gallery.choose(seen, 1000)) == 100


def test_an_episode_that_never_came_to_the_role_ranks_last() -> None:
    seen = scanned([-math.inf, 0.0, -3.0], ["no proposal", "no picture", "no picture"])
    assert set(gallery.choose(seen, 3)) == {0, 1, 2}
    record = world_episode(1, np.random.default_rng(0), drawn=())
    assert stage_reward(record, "coder") == stage_reward(record, "solver") == -math.inf
    assert stage_reward(record, "proposer") == pytest.approx(0.1)


def test_cards_know_what_they_are_filtered_by(run: Path) -> None:
    found = collected(run)
    assert [(g.file.iteration, g.total, len(g.cards)) for g in found.groups] == [
        (1, 10, 10),
        (2, 10, 10),
    ]
    cards = {card.place: card for card in found.groups[0].cards}
    assert [cards[n].shown.labels for n in (0, 1, 4)] == [("right",), ("wrong",), ()]
    assert [cards[n].shown.leaked for n in (0, 2, 4)] == ["no", "yes", "unknown"]
    assert [cards[n].shown.drawn for n in (0, 3, 4, 9)] == ["all", "some", "none", "none"]
    assert [cards[n].outcome for n in (0, 1, 4, 9)] == [
        "label right",
        "label wrong",
        "no picture",
        "no proposal",
    ]
    assert 'data-label="wrong"' in cards[1].html and 'data-leaked="yes"' in cards[2].html
    rewards = [card.reward for card in found.groups[0].cards]
    assert rewards == sorted(rewards, key=lambda r: -r) and found.content_types == ["data_chart"]


def test_the_strip_shows_the_last_picture_of_a_topic_and_the_first_of_all(run: Path) -> None:
    found = collected(run)
    assert (found.stage, found.columns) == ("proposer", ("start", "iteration 1", "iteration 2"))
    rows = dict(found.rows)
    assert list(rows) == ["bars", "maps", "map"]
    shown = [(c.card.file.iteration, c.card.place) for c in rows["bars"] if c and c.card]
    # Number 4 is about bars and has no picture.
    assert shown == [(1, 0), (1, 8), (2, 8)]
    assert [c.place.seen.pictured for c in rows["bars"] if c] == [4, 4, 4]
    assert [c.place.seen.episodes for c in rows["bars"] if c] == [5, 5, 5]
    assert [c and c.card for c in rows["map"]] == [None] * 3
    assert all(c.card in found.groups[c.card.file.iteration - 1].cards for c in rows["maps"])


def test_the_strip_of_a_long_run_has_its_first_and_its_last_iteration(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    (tmp_path / "episodes").mkdir()
    for i in range(1, 31):
        path = tmp_path / "episodes" / f"iter-{i}-coder.jsonl"
        write_records(path, [world_episode(i, rng)])
    plan = strip.plan(Scanner().scan(tmp_path / "episodes"))
    assert plan is not None and len(plan.columns) == 12
    assert (plan.columns[0], plan.columns[1], plan.columns[-1]) == (
        "start",
        "iteration 1",
        "iteration 30",
    )
    assert strip.plan([]) is None


def test_ids_that_come_twice_or_are_odd_have_links_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "episodes").mkdir()
    records = [world_episode(n, np.random.default_rng(n)) for n in range(3)]
    records[1]["id"] = records[0]["id"]
    records[2]["id"] = '"><script>'
    write_records(tmp_path / "episodes" / "iter-1-proposer.jsonl", records)
    [group] = collected(tmp_path).groups
    assert {card.anchor for card in group.cards} == {"e-w-0", "e-w-0-again-1", "e-script"}


def test_small_files_are_kept_and_large_pictures_shrink(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    small = image_to_png(picture(rng))
    assert pictures.thumbnail(small).startswith("data:image/png;base64,")
    noise = image_to_png(rng.integers(0, 255, (900, 450, 3), dtype=np.uint8))
    shrunk = pictures.thumbnail(noise)
    assert shrunk is not None and shrunk.startswith("data:image/webp;base64,")
    assert len(shrunk) < len(noise) / 10
    assert pictures.thumbnail(b"no picture") is None and pictures.thumbnail(small[:60]) is None


def test_a_picture_costs_its_bytes_once_and_nothing_when_its_card_is_dropped() -> None:
    rng = np.random.default_rng(0)
    one, two = image_to_png(picture(rng)), image_to_png(picture(rng))
    found = Pictures()
    assert found.add(one) == found.add(one) == "p0"
    assert found.css().count("url(") == 1 and found.size == len(found.css()) + 1
    mark, size = found.mark(), found.size
    assert found.add(two) == "p1" and found.add(b"x") is None and found.size > size
    found.go_back(mark)
    assert found.size == size and "p1" not in found.css()
    assert found.add(two) == "p1"


def test_a_file_is_scanned_again_only_when_it_has_changed(run: Path, monkeypatch) -> None:
    scanner = Scanner()
    first = scanner.scan(run / "episodes")
    assert [a is b for a, b in zip(first, scanner.scan(run / "episodes"), strict=True)] == [
        True
    ] * 2
    path = run / "episodes" / "iter-2-proposer.jsonl"
    write_records(path, [world_episode(5, np.random.default_rng(0))])
    second = scanner.scan(run / "episodes")
    assert second[0] is first[0]
    assert (len(first[1].rewards), len(second[1].rewards)) == (10, 11)


def test_parquet_is_read_as_well_and_a_twin_not_twice(run: Path) -> None:
    path = run / "episodes" / "iter-1-proposer.jsonl"
    convert(path, path.with_suffix(".parquet"))
    assert collected(run).total == 20
    path.unlink()
    found = collected(run)
    assert (found.total, found.shown) == (20, 20)
    assert found.groups[0].file.path.suffix == ".parquet"


def test_records_are_read_without_being_held(tmp_path: Path, monkeypatch) -> None:
    # A hundred episodes, of which at most the few that are shown are alive at any time.
    (tmp_path / "episodes").mkdir()
    path = tmp_path / "episodes" / "iter-1-coder.jsonl"
    record = world_episode(1, np.random.default_rng(1))
    write_records(path, [record | {"id": f"w/{n}"} for n in range(100)])
    kept: list[weakref.ref] = []
    most = 0

    class Tracked(dict):
        pass

    def tracked(source):
        nonlocal most
        for each in read_records(source):
            held = Tracked(each)
            kept.append(weakref.ref(held))
            most = max(most, sum(ref() is not None for ref in kept))
            yield held

    monkeypatch.setattr(scan, "read_records", tracked)
    assert len(Scanner().scan(tmp_path / "episodes")[0].rewards) == 100
    assert len(kept) == 100 and most <= 2
