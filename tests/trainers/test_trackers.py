"""Trackers: what TensorBoard, Trackio and Weights & Biases hold, and what happens if they fail."""

from __future__ import annotations

import json
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmzero_env.errors import UserError
from trainers import config as configs
from trainers import trackers
from trainers.tracker import Entry, TensorBoard
from trainers.trackers import RunTrackers, open_trackers


def row(step, stage="solver", iteration=1, **values):
    return {"iteration": iteration, "stage": stage, "step": step, "reward": step / 10, **values}


def run_config(folder, names="tensorboard"):
    (folder / "state").mkdir(parents=True, exist_ok=True)
    return configs.load("nano-cpu", {"out": str(folder), "trackers": names})


class Picture:
    """A finished episode with one picture."""

    def __init__(self, shade, caption="a red bar"):
        self.shade, self.caption = shade, caption

    def outcome(self):
        from mmzero_env.protocol import CodeOutcome, Drawing, EpisodeOutcome, Proposal

        image = np.full((8, 8, 3), self.shade, dtype=np.uint8)
        code = CodeOutcome("<svg/>", "<svg/>", Drawing(image))
        proposal = Proposal("chart", self.caption, "?", "1", "?", "2")
        return EpisodeOutcome("e", "bars", "raw", proposal, (code,))


class Kept:
    """A tracker that keeps what it is given."""

    def __init__(self, next_step=0, fails_at=None):
        self.next_step, self.fails_at = next_step, fails_at
        self.entries, self.closed = [], False

    def log(self, entry):
        if entry.step == self.fails_at:
            raise ConnectionError("the network is gone\nTraceback ...")
        self.entries.append(entry)

    def close(self):
        self.closed = True


def events(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    return found


def test_tensorboard_holds_the_numbers_of_metrics_jsonl_and_a_few_pictures(tmp_path):
    with open_trackers(run_config(tmp_path), [], pytest.fail) as shown:
        shown.log(row(0, "coder", kl=None, render_rate=0.5))
        shown.episodes(1, "solver", [Picture(shade) for shade in range(10)])
        shown.episodes(1, "solver", [Picture(99)])
        shown.log(row(0, **{"reward/match": 0.25}))
        shown.log(row(1))
    found = events(tmp_path / "tensorboard")
    scalars = {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }
    assert scalars["coder/render_rate"] == [(0, 0.5)] and "coder/kl" not in scalars
    assert scalars["solver/reward/match"] == [(1, 0.25)]
    assert scalars["solver/reward"] == [(1, 0.0), (2, pytest.approx(0.1))]
    assert scalars["solver/step"] == [(1, 0), (2, 1)]
    pictures = sorted(tag for tag in found.Tags()["images"])
    assert pictures == [f"solver/picture-{n}" for n in range(trackers.PICTURES)]
    assert [event.step for event in found.Images("solver/picture-3")] == [1]
    (caption,) = found.Tensors("solver/picture-0/caption/text_summary")
    assert caption.tensor_proto.string_val[0].decode().strip() == "a red bar"


def test_a_resumed_run_leaves_no_step_twice_and_no_torn_step_in_tensorboard(tmp_path):
    config = run_config(tmp_path)
    killed = open_trackers(config, [], pytest.fail)
    for step in range(5):
        killed.log(row(step, loss=float(step)))
    # Killed while it wrote row 5: the file ends in the middle of an event.
    torn = TensorBoard(tmp_path / "tensorboard", 5)
    torn.log(Entry(5, "solver", {"solver/reward": 9.0, "solver/loss": 9.0}))
    (newest,) = [f for f in (tmp_path / "tensorboard").iterdir() if f.stat().st_size < 400]
    newest.write_bytes(newest.read_bytes()[:-7])
    # The state that the run goes on from knows three rows.
    rows = [row(step) for step in range(3)]
    with open_trackers(config, rows, pytest.fail) as resumed:
        for step in range(3, 7):
            resumed.log(row(step, loss=float(step)))
    found = events(tmp_path / "tensorboard")
    for tag in ("solver/reward", "solver/loss"):
        assert [event.step for event in found.Scalars(tag)] == list(range(7)), tag
    assert [event.value for event in found.Scalars("solver/loss")] == list(range(7))


def test_a_tracker_gets_the_rows_it_lacks_and_none_that_it_has():
    rows = [row(step) for step in range(4)]
    lacks, ahead = Kept(next_step=2), Kept(next_step=6)
    shown = RunTrackers({"lacks": lambda: lacks, "ahead": lambda: ahead}, pytest.fail, rows)
    for step in range(4, 8):
        shown.log(row(step))
    assert [entry.step for entry in lacks.entries] == [2, 3, 4, 5, 6, 7]
    assert [entry.step for entry in ahead.entries] == [6, 7]
    assert lacks.entries[0].values["solver/reward"] == pytest.approx(0.2)


def test_pictures_of_a_stage_that_has_rows_are_not_shown_again():
    kept = Kept(next_step=1)
    shown = RunTrackers({"kept": lambda: kept}, pytest.fail, [row(0)])
    shown.episodes(1, "solver", [Picture(3)])
    shown.log(row(1))
    shown.episodes(2, "solver", [Picture(3)])
    shown.log(row(0, iteration=2))
    shown.episodes(2, "simultaneous", [Picture(3)])
    shown.log(row(1, "coder", iteration=2))
    assert [len(entry.samples) for entry in kept.entries] == [0, 1, 1]
    again = RunTrackers({"kept": lambda: kept}, pytest.fail, [row(0), row(1, "coder", iteration=2)])
    again.episodes(2, "simultaneous", [Picture(3)])
    again.log(row(2, iteration=2))
    assert not kept.entries[-1].samples


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on():
    notes: list[str] = []
    fails, kept = Kept(fails_at=1), Kept()

    def never_starts():
        raise TimeoutError("no answer in 30 s")

    starts = {"wandb": lambda: fails, "kept": lambda: kept, "trackio": never_starts}
    with RunTrackers(starts, notes.append) as shown:
        for step in range(4):
            shown.log(row(step))
    assert [entry.step for entry in kept.entries] == [0, 1, 2, 3] and kept.closed
    assert [entry.step for entry in fails.entries] == [0]
    assert [note.split(";")[0] for note in notes] == [
        "trackio takes no more metrics (no answer in 30 s)",
        "wandb takes no more metrics (the network is gone)",
    ]


def test_ctrl_c_is_not_taken_for_a_failure_of_a_tracker():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunTrackers({"wandb": interrupted})


def test_a_package_that_is_missing_is_named_with_the_command_that_adds_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(
        UserError, match=r"'trackio' is needed.*pip install 'mmzero-env\[trackio\]'"
    ):
        trackers.require_trackers(["trackio"])


def test_an_unknown_tracker_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown tracker 'wandbb'. Did you mean 'wandb'"):
        configs.load("nano-cpu", {"out": str(tmp_path), "trackers": "wandbb"})


def test_trackers_draw_no_random_numbers_of_the_run(tmp_path):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with open_trackers(run_config(tmp_path), [], pytest.fail) as shown:
        shown.episodes(1, "solver", [Picture(3)])
        shown.log(row(0))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == states


def log_records(data: bytes):
    """The records of a LevelDB log, behind the 7 bytes with which a .wandb file begins."""
    place, whole = 7, b""
    while len(data) - place >= 7:
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield whole
            whole = b""


def offline_history(folder: Path):
    """Id and rows of what the offline folders of Weights & Biases hold, in order of start."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    files = folder.glob("wandb/offline-run-*/*.wandb")
    for path in sorted(files, key=lambda path: path.parent.name):
        records = [Record.FromString(data) for data in log_records(path.read_bytes())]
        items = [r.history.item for r in records if r.WhichOneof("record_type") == "history"]
        rows = [
            {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in row}
            for row in items
        ]
        found.append((path.stem, rows))
    return found


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.trainers.test_trackers import Picture, open_trackers, row, run_config
shown = open_trackers(run_config(Path(sys.argv[1]), sys.argv[2]), [], sys.exit)
shown.episodes(1, "solver", [Picture(3)])
for step in range(4):
    shown.log(row(step))
os.kill(os.getpid(), signal.SIGKILL)
"""


def play_twice(folder, name):
    """Four rows of a process that is killed, the state knows three; then the rest of six."""
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), name], timeout=120)
    assert killed.returncode == -signal.SIGKILL
    # Weights & Biases names an offline folder by the second.
    time.sleep(1.1)
    rows = [row(step) for step in range(3)]
    with open_trackers(run_config(folder, name), rows, pytest.fail) as shown:
        for step in range(3, 5):
            shown.log(row(step))
        shown.episodes(2, "solver", [Picture(3)])
        shown.log(row(5, iteration=2))


@pytest.mark.alone
def test_weights_and_biases_offline_holds_every_row_under_one_id(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    play_twice(tmp_path, "wandb")
    # Offline there is nothing to ask what the run holds, so the folder of the last start holds
    # the whole run; what had not left the killed process is not in the other. The rows are
    # written by a process of its own, which a busy machine may keep waiting.
    for _ in range(60):
        found = offline_history(tmp_path)
        resumed = max((rows for _, rows in found), key=len)
        if len(resumed) >= 6:
            break
        time.sleep(0.5)
    assert len({name for name, _ in found}) == 1  # one id
    assert [entry["_step"] for entry in resumed] == list(range(6))
    assert [entry["solver/reward"] for entry in resumed] == [step / 10 for step in range(6)]
    assert resumed[5]["solver/picture-0/caption"] == "a red bar"


def test_trackio_holds_every_step_once_after_a_resume(tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    play_twice(tmp_path, "trackio")
    (run,) = trackio.Api().runs("mm-zero")
    logs = SQLiteStorage.get_logs("mm-zero", run.name)
    assert [entry["step"] for entry in logs] == list(range(6))
    assert [entry["solver/reward"] for entry in logs] == [step / 10 for step in range(6)]
    assert logs[5]["solver/picture-0"]["caption"] == "a red bar"
