from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args, is_typeddict

import numpy as np
import pytest
from PIL import Image

from mmzero_env import parquet, record_files
from mmzero_env.errors import EngineError, UserError
from mmzero_env.record import (
    UnfinishedFile,
    batch_to_records,
    convert,
    episode_to_record,
    image_to_png,
    pick_records,
    png_to_image,
    read_records,
    write_records,
)
from mmzero_env.record_schema import SCHEMA, EpisodeRecord, fields_of
from mmzero_env.rendering import Renderer, RenderLimits
from mmzero_env.replay import compare
from mmzero_env.rewards import RewardDesign, get_design
from mmzero_env.utf8 import escape, unescape
from tests.mmzero_env.recorded import (
    ODD,
    PROPOSAL,
    SIZE,
    batch,
    finished,
    proposal_text,
    record_of,
)
from trainers import cli

DOCS = Path(__file__).parents[2] / "docs" / "records.md"
SCHEMA_3 = Path(__file__).parent / "schema_3.jsonl"


@pytest.fixture(scope="module")
def records():
    """A whole episode, one that starts from a proposal, one that fails at once, a batch."""
    with Renderer(SIZE, limits=RenderLimits(max_depth=9)) as renderer:
        context = {"seed": -5, "design": get_design("mm_zero"), "renderer": renderer}
        return [
            record_of(finished(proposal_text()), **context),
            record_of(finished("", {"proposal": PROPOSAL})),
            record_of(finished("<caption>half")),
            *batch(memory=[["a b c d 0"], [ODD]]),
        ]


def test_a_record_holds_the_episode(records):
    whole, given, failed, *_ = records
    assert whole["proposal"]["caption"] == PROPOSAL.caption and whole["failure"] is None
    drawn, wordy, broken = whole["codes"]
    assert drawn["png"].startswith(b"\x89PNG") and drawn["failure"] is None
    assert drawn["answers"] == {
        "easy": ["\\boxed{3}", ODD],
        "hard": ["<think>é</think>\\boxed{6}", "\\boxed{5}"],
    }
    assert drawn["votes"]["easy"]["winner"] == "3" and drawn["reward"]["terms"]
    assert len(drawn["solver_rewards"]["hard"]) == 2
    assert wordy["png"] is None and wordy["failure"]["reason"] == "no_code"
    assert broken["failure"]["stage"] == "render" and broken["answers"] == {}
    assert given["proposal_text"] == "" and given["proposal"] == whole["proposal"]
    assert failed["proposal"] is None and failed["failure"]["stage"] == "proposal"
    assert failed["codes"] == [] and failed["reward"]["value"] == -1.0


def test_a_record_holds_how_the_episode_was_made(records):
    whole, given, failed, first, second, *_ = records
    assert whole["seed"] == -5 and whole["batch"] is None and whole["population"] == 1
    assert whole["design"] == {"name": "mm_zero", "overrides": {}}
    assert whole["render"] == {"size": SIZE, "backend": "cairosvg", "limits": {"max_depth": 9}}
    assert whole["versions"].keys() == {"mmzero-env", "cairosvg", "cairo"}
    assert whole["config"] == {
        "codes": 3, "answers": 2, "questions": ["easy", "hard"], "prompts": "",
        "code_forms": ["svg"],
    }  # fmt: skip
    assert given["design"] is None and given["render"] is None and given["seed"] is None
    assert first["batch"] == second["batch"] == "e0" and first["population"] == 5
    assert first["seed"] == 2**62 and first["config"]["prompts"] == "nano"
    assert first["design"]["overrides"] == {"solvability_cap": 0.75}
    assert first["memory"] == [["a b c d 0"], [ODD]] and second["memory"] == []


def test_overrides_are_those_that_make_the_design():
    outcome, rewards = finished("x").outcome, finished("x").episode_rewards
    base = get_design("mm_zero")

    def overrides(design):
        return episode_to_record(outcome, rewards, design=design)["design"]["overrides"]

    changes = {"grading": "official", "solver.format": 0.2, "proposer.learnability": 1.0}
    assert overrides(base.with_overrides(**changes)) == changes
    fewer = replace(base, solver={"accuracy": 1.0})
    assert overrides(fewer) is None
    assert overrides(RewardDesign("my_own")) is None


def test_caption_answers_are_recorded_where_there_are_any(records):
    env = finished("x")
    object.__setattr__(env.outcome, "caption_answers", {"easy": ("\\boxed{1}", ODD)})
    assert record_of(env)["caption_answers"] == {"easy": ["\\boxed{1}", ODD]}
    assert records[0]["caption_answers"] == {}


def test_blind_answers_are_recorded_where_there_are_any(records):
    env = finished("x")
    object.__setattr__(env.outcome, "blind_answers", {"hard": ("\\boxed{6}", ODD)})
    assert record_of(env)["blind_answers"] == {"hard": ["\\boxed{6}", ODD]}
    assert records[0]["blind_answers"] == {}


def test_a_file_of_schema_3_is_read_and_goes_on_in_the_new_one(tmp_path, records):
    """The file was written by the last revision that wrote schema 3."""
    path = tmp_path / "old.jsonl"
    path.write_bytes(SCHEMA_3.read_bytes())
    old = list(read_records(path))
    assert [record["id"] for record in old] == ["e0", "e1"]
    assert [record["schema"] for record in old] == [SCHEMA, SCHEMA]
    assert all(record["blind_answers"] == {} for record in old)
    assert list(old[0]) == list(fields_of(EpisodeRecord))
    assert all(result.difference is None for result in compare(old, workers=0))
    write_records(path, records[:1])
    assert list(read_records(path)) == [*old, records[0]]
    broken = json.loads(SCHEMA_3.read_text().splitlines()[0])
    del broken["topic"]
    path.write_text(json.dumps(broken) + "\n")
    with pytest.raises(UserError, match="line 1: the record lacks topic"):
        list(read_records(path))


def test_a_parquet_file_of_schema_3_is_read_and_goes_on_in_the_new_one(tmp_path, records):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "episodes.parquet"
    write_records(path, records)
    table = pq.read_table(path).drop_columns(["blind_answers"])
    column = pa.array([3] * len(records))
    pq.write_table(table.set_column(table.column_names.index("schema"), "schema", column), path)
    assert list(read_records(path)) == records
    write_records(path, records[:1])
    assert list(read_records(path)) == [*records, records[0]]
    # The new schema without its column is damaged, not old.
    pq.write_table(pq.read_table(path).drop_columns(["blind_answers"]), path)
    with pytest.raises(UserError, match="row 1: the record lacks blind_answers"):
        list(read_records(path))


def test_what_cannot_be_a_record_is_refused(records, tmp_path):
    env = finished(proposal_text())
    with pytest.raises(UserError, match="0 codes"):
        episode_to_record(finished("x").outcome, env.episode_rewards)
    with pytest.raises(UserError, match="64 bits, got 9223372036854775808"):
        record_of(env, seed=2**63)
    with pytest.raises(UserError, match="at least 1: 0"):
        record_of(env, population=0)
    with pytest.raises(UserError, match="0 episodes came with 1"):
        batch_to_records([], [env.episode_rewards], design=get_design("mm_zero"))
    wrong = {**records[0], "topic": 3}
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(UserError, match="record 2: topic must be a text, got 3"):
            write_records(tmp_path / name, [records[0], wrong])
    assert not (tmp_path / "a.parquet").exists()
    with pytest.raises(UserError, match=r"ends in \.jsonl or \.parquet"):
        write_records(tmp_path / "a.json", records)


@pytest.mark.parametrize("name", ["episodes.jsonl", "episodes.parquet"])
def test_files_give_back_what_was_written(records, tmp_path, name):
    path = tmp_path / name
    assert write_records(path, records[:1]) == 1
    assert write_records(path, records[1:]) == len(records) - 1
    assert list(read_records(path)) == records
    if name.endswith("jsonl"):
        assert len(path.read_text(encoding="utf-8").splitlines()) == len(records)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["episodes.jsonl", "episodes.parquet"])
def test_a_few_records_are_read_by_their_place(records, tmp_path, name):
    path = tmp_path / name
    write_records(path, records)
    last = len(records) - 1
    assert list(pick_records(path, [last, 0, 99])) == [(0, records[0]), (last, records[last])]
    assert list(pick_records(path, [])) == []
    with pytest.raises(UserError, match="No such file"):
        list(pick_records(tmp_path / "absent.jsonl", [0]))


def test_only_the_lines_that_are_asked_for_have_to_be_whole(records, tmp_path):
    path = tmp_path / "episodes.jsonl"
    write_records(path, records[:3])
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(lines[0] + "nonsense\n" + lines[2][:-1], encoding="utf-8")
    # The last record lacks its line end: it is being written.
    assert list(pick_records(path, [0, 2])) == [(0, records[0])]
    with pytest.raises(UserError, match=r"episodes\.jsonl, line 2: expected one JSON object"):
        list(pick_records(path, [1]))


def test_the_quick_look_at_a_record_passes_nothing_that_the_careful_one_refuses(records):
    from mmzero_env import record_schema as schema

    quick = schema._test(schema.EpisodeRecord)
    assert all(map(quick, records))
    # Every place of a record in turn holds something else.
    junk = (None, True, 3, 0.5, float("nan"), "x", b"x", [], {}, [1], {"a": None}, {3: "a"})
    refused = 0
    for record in records[:2]:
        for changed in with_junk(record, junk):
            try:
                schema._check(changed, schema.EpisodeRecord, "here", "")
            except UserError:
                refused += 1
                assert not quick(changed)
    assert refused > 1000


def with_junk(value, junk):
    yield from junk
    if isinstance(value, dict):
        yield {key: each for key, each in list(value.items())[1:]}
        for key, each in value.items():
            yield from (value | {key: changed} for changed in with_junk(each, junk))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            for changed in with_junk(each, junk):
                yield [*value[:index], changed, *value[index + 1 :]]


def test_both_forms_convert_into_each_other_to_the_byte(records, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS_IN_GROUP", 3)
    one, two, three = (tmp_path / n for n in ("1.jsonl", "2.parquet", "3.jsonl"))
    write_records(one, records)
    assert convert(one, two) == convert(two, three) == len(records)
    assert three.read_bytes() == one.read_bytes()
    assert list(read_records(two)) == records
    with pytest.raises(UserError, match=r"3\.jsonl exists already"):
        convert(two, three)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_directory_is_read_in_the_order_of_names(records, tmp_path):
    write_records(tmp_path / "b.jsonl", records[1:2])
    write_records(tmp_path / "a.parquet", records[:1])
    write_records(tmp_path / "c.parquet", records[2:])
    (tmp_path / "notes.txt").write_text("not a record")
    assert list(read_records(tmp_path)) == records
    (tmp_path / "b.jsonl").write_bytes((tmp_path / "b.jsonl").read_bytes()[:-1])
    kept = []
    with pytest.raises(UnfinishedFile, match=r"b\.jsonl, line 1 is unfinished"):
        for record in read_records(tmp_path):
            kept.append(record)
    assert kept == [records[0], *records[2:]]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no episode records: expected \.jsonl or"):
        list(read_records(tmp_path / "empty"))


def test_escaped_text_is_utf8_and_comes_back():
    rng = np.random.default_rng(0)
    alphabet = [*'a\\"\n', *map(chr, (0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE000, 0x1F600))]
    alphabet += map(chr, (0x10D7FE, 0x10D7FF, 0x10D800, 0x10DFFF, 0x10E000))
    for _ in range(3000):
        text = "".join(rng.choice(alphabet, size=rng.integers(0, 9)))
        assert unescape(escape(text).encode().decode()) == text
    assert escape("é 日本 😀") == "é 日本 😀"


def test_png_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    assert (png_to_image(image_to_png(image)) == image).all()


def test_an_unfinished_line_is_never_taken_for_a_whole_one(records, tmp_path):
    path = tmp_path / "episodes.jsonl"
    write_records(path, records[:2])
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in (len(whole) - 1, len(whole) - 2, first + 1):
        path.write_bytes(whole[:end])
        stream = read_records(path)
        assert next(stream) == records[0]
        with pytest.raises(UnfinishedFile, match=r"line 2 is unfinished.*head -n 1"):
            next(stream)
        # Nor is anything glued to it.
        with pytest.raises(UnfinishedFile, match="line 2"):
            write_records(path, records[2:])
        assert path.read_bytes() == whole[:end]
        with pytest.raises(UnfinishedFile):
            convert(path, tmp_path / "c.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["episodes.jsonl"]
    path.write_bytes(b"")
    assert list(read_records(path)) == []


@pytest.mark.parametrize("name", ["episodes.jsonl", "episodes.parquet"])
def test_a_writer_that_fails_leaves_whole_files(records, tmp_path, name):
    def breaks():
        yield records[1]
        raise ZeroDivisionError

    path = tmp_path / name
    write_records(path, records[:1])
    with pytest.raises(ZeroDivisionError):
        write_records(path, breaks())
    kept = list(read_records(path))
    assert kept == (records[:2] if name.endswith("jsonl") else records[:1])
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_full_disk_is_a_failure_of_ours(records, tmp_path, monkeypatch):
    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_files.os, "fsync", full)
    for name in ("a.jsonl", "a.parquet"):
        with pytest.raises(EngineError, match="No space left"):
            write_records(tmp_path / name, records)
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]
    with pytest.raises(UserError, match="No such file"):
        write_records(tmp_path / "absent" / "a.jsonl", records)
    with pytest.raises(UserError, match="No such file"):
        write_records(tmp_path / "absent" / "a.parquet", records)


def test_damaged_lines_are_named(records, tmp_path):
    path = tmp_path / "episodes.jsonl"
    with pytest.raises(UserError, match=r"episodes\.jsonl: No such file"):
        list(read_records(path))
    write_records(path, records[:3])
    good = path.read_text().splitlines()

    def changed(**fields):
        return json.dumps(json.loads(good[1]) | fields)

    def with_code(**fields):
        codes = json.loads(good[0])["codes"]
        return changed(codes=[codes[0] | fields])

    vote = {"winner": "3", "consistency": "high", "valid": 1, "total": 1}
    cases = {
        "line 2: expected one JSON object in UTF-8, but": good[1][:-5],
        "line 2: expected an episode record of schema 3 or 4, got schema 2": changed(schema=2),
        "line 2: expected an episode record of schema 3 or 4, got schema None": "[3]",
        "line 2: the record lacks topic": good[1].replace('"topic"', '"subject"'),
        "line 2: the record has mood, which schema 4 does not know": changed(mood="good"),
        "line 2: codes must be a list, got 7": changed(codes=7),
        "line 2: codes[0] must be an object, got 3": changed(codes=[3]),
        "line 2: population must be a whole number, got True": changed(population=True),
        "line 2: config.questions[0] must be a text, got None": changed(
            config=json.loads(good[1])["config"] | {"questions": [None]}
        ),
        "line 2: design.overrides.a must be a text, number, true, false or null": changed(
            design={"name": "x", "overrides": {"a": []}}
        ),
        "line 2: codes[0].votes.easy.consistency must be a number, got 'high'": with_code(
            votes={"easy": vote}
        ),
        "line 2: codes[0].difficulty must be a finite number, got nan": with_code(
            difficulty=float("nan")
        ),
        "line 2: codes[0].difficulty must be a finite number, got 1000": with_code(
            difficulty=10**400
        ),
        "line 2: 'png' must be base64": with_code(png="!"),
        "line 2: codes[0].png must be PNG bytes, got 5": with_code(png=5),
    }
    for message, line in cases.items():
        path.write_text("\n".join([good[0], line, good[2], ""]))
        with pytest.raises(UserError) as caught:
            list(read_records(path))
        assert f"{path}, {message}" in str(caught.value)
    path.write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="line 1: expected one JSON object in UTF-8"):
        list(read_records(path))


def test_damaged_parquet_files_are_named(records, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "episodes.parquet"
    write_records(path, records)
    whole, table = path.read_bytes(), pq.read_table(path)
    for damaged in (whole[: len(whole) // 2], b"", whole[:8] + b"\x00" * 400 + whole[408:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"episodes\.parquet: expected a whole Parquet file"):
            list(read_records(path))
    pq.write_table(table.drop_columns(["topic", "images"]), path)
    with pytest.raises(UserError, match=r"schema 4; it lacks topic, images\."):
        list(read_records(path))
    for name, values, said in (
        ("schema", [1] * len(records), "row 1: expected an episode record of schema 3 or 4, got"),
        ("topic", [None] * len(records), "row 1: topic must be a text, got None"),
        ("images", [[]] * len(records), "row 1: expected an episode record"),
        ("codes", ["?"] * len(records), "row 1: expected an episode record"),
    ):
        place = table.column_names.index(name)
        pq.write_table(table.set_column(place, name, pa.array(values)), path)
        with pytest.raises(UserError) as caught:
            list(read_records(path))
        assert f"{path}, {said}" in str(caught.value)


def test_without_pyarrow_the_pip_command_is_named(records, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="pip install pyarrow"):
        write_records(tmp_path / "a.parquet", records)
    write_records(tmp_path / "a.jsonl", records)
    assert list(read_records(tmp_path)) == records


def test_datasets_shows_the_pictures(records, tmp_path):
    datasets = pytest.importorskip("datasets")
    write_records(tmp_path / "episodes.parquet", records)
    loaded = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "episodes.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert len(loaded) == len(records)
    assert loaded.features["images"] == datasets.List(datasets.Image())
    picture, none, _ = loaded[0]["images"]
    assert isinstance(picture, Image.Image) and none is None
    assert (np.asarray(picture) == png_to_image(records[0]["codes"][0]["png"])).all()
    assert loaded[0]["codes"][0]["votes"][0]["value"]["winner"] == "3"
    # What datasets writes again is still a file of records.
    loaded.to_parquet(str(tmp_path / "again.parquet"))
    assert list(read_records(tmp_path / "again.parquet")) == records


def test_the_documentation_names_every_field_and_its_examples_run(tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("datasets")
    text = DOCS.read_text(encoding="utf-8")
    assert f"schema is {SCHEMA}" in text
    shapes = [EpisodeRecord]
    for shape in shapes:
        for name, hint in fields_of(shape).items():
            assert f"`{name}`" in text, f"{shape.__name__}.{name} is not documented"
            shapes += [each for each in _shapes_in(hint) if each not in shapes]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    names: dict = {}
    run = []
    for block in text.split("```")[1::2]:
        language, _, code = block.partition("\n")
        run.append(language)
        if language == "python":
            exec(compile(code, str(DOCS), "exec"), names)
        else:
            assert language == "bash"
            for line in code.splitlines():
                assert cli.main(shlex.split(line, comments=True)[1:]) == 0
    assert run.count("python") >= 3 and "bash" in run
    assert "3 identical, 0 different" in capsys.readouterr().out


def _shapes_in(hint):
    """The record classes that an annotation mentions."""
    if is_typeddict(hint):
        return [hint]
    return [shape for inner in get_args(hint) for shape in _shapes_in(inner)]
