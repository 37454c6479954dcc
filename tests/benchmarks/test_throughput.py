import dataclasses
import importlib
import json
import os
import time

import psutil
import pytest

from benchmarks import catalogue, command, throughput, throughput_page
from benchmarks.catalogue import CATALOGUE, Entry
from mmzero_env.errors import UserError
from mmzero_env.rendering.system import Finding

SCRIPT = """
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
options = sys.argv[3:]
with (here / "calls").open("a") as file:
    print(*options, file=file)
if (here / "broken").exists() and "slow" not in options:
    print("one line\\nand the reason")
    sys.exit(3)
if "silent" in options:
    sys.exit(0)
table = {"title": "a table", "columns": ["way", "ms"], "rows": [["ours | theirs", "1.5"]]}
ratio = {"what": "slow / fast", "text": "2.00", "headline": True, "median": 2.0, "min": 2.0}
result = {
    "script": "fake", "command": "python -m fake " + " ".join(options), "revision": "abc",
    "seeds": [0], "machine": {"processor": "P", "numpy": "2"}, "ratios": [ratio],
    "tables": [{**table, "note": "a note"}], "notes": ["Not run: x"],
    "figures": {"pid": os.getpid()},
}
pathlib.Path(sys.argv[2]).write_text(json.dumps(result))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder with a module whose calls are noted in a file."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "fake_script.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr(throughput_page, "RESULTS", tmp_path / "published")
    monkeypatch.setattr(throughput_page, "PAGE", tmp_path / "bench-throughput.md")
    return folder


def entry(name, *, quick=("quick",), full=("full",), needs=lambda: None):
    return Entry(name, "fake_script", "Some", f"What {name} is.", full, 60.0, quick, 1.0, needs)


def offer(monkeypatch, *entries):
    for module in (throughput, throughput_page):
        monkeypatch.setattr(module, "CATALOGUE", entries)


def bench(tmp_path, *words):
    parser = command.build_parser()
    args = parser.parse_args(["throughput", "--out", str(tmp_path / "out"), *words])
    args.words = ("mmzero", "bench", "throughput", *words)
    return args.command(args)


def calls(fake):
    return (fake / "calls").read_text().split()


def test_every_script_runs_in_a_process_of_its_own_and_only_once(
    fake, tmp_path, monkeypatch, capsys
):
    offer(monkeypatch, entry("first"), entry("second", quick=("other",)))
    assert bench(tmp_path, "--quick", "--only", "first") == 0
    assert bench(tmp_path, "--quick") == 0
    assert calls(fake) == ["quick", "other"]
    assert "1 of 2 were done before" in capsys.readouterr().err
    found = {
        name: json.loads((tmp_path / "out" / f"{name}.json").read_text())
        for name in ("first", "second")
    }
    pids = {record["figures"]["pid"] for record in found.values()}
    assert len(pids) == 2 and os.getpid() not in pids
    assert [record["command"] for record in found.values()] == [
        "python -m fake quick",
        "python -m fake other",
    ]
    for name, record in found.items():
        assert (record["script"], record["status"]) == (name, "measured")
        assert record["load"]["cores"] == os.cpu_count() and record["seconds"] > 0


def test_the_page_has_command_tables_ratios_and_where_they_are_from(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    offer(monkeypatch, entry("first"))
    bench(tmp_path)
    page = (tmp_path / "out" / "bench-throughput.md").read_text()
    assert "\n    python -m fake full\n" in page
    assert "| ours \\| theirs | 1.5 |\n" in page and "|---|---:|" in page
    assert "| slow / fast | 2.00 | [first](#first) |" in page
    assert "revision abc" in page and "seeds 0" in page and "OMP_NUM_THREADS=7" in page
    assert "| processor | P |" in page and "Not run: x" in page
    assert "Quick mode" not in page


def test_a_script_that_fails_is_reported_and_the_others_go_on(fake, tmp_path, monkeypatch, capsys):
    (fake / "broken").touch()
    offer(monkeypatch, entry("bad"), entry("good", quick=("slow",)))
    assert bench(tmp_path, "--quick") == 1
    said = capsys.readouterr()
    assert "FAILED" in said.err and "bad ended with exit code 3" in said.out
    assert "and the reason" in said.out
    assert "and the reason" in (tmp_path / "out" / "bench-throughput.md").read_text()
    assert json.loads((tmp_path / "out" / "good.json").read_text())["status"] == "measured"
    # The page of the documentation names no folder of this machine.
    record = json.loads((tmp_path / "out" / "bad.json").read_text())
    throughput_page.publish({"bad": record})
    assert record["tail"] and "tail" not in (throughput_page.RESULTS / "bad.json").read_text()
    # Mended, it is done by the next call, and nothing else is.
    (fake / "broken").unlink()
    assert bench(tmp_path, "--quick") == 0
    assert calls(fake) == ["quick", "slow", "quick"]


def test_a_script_that_writes_nothing_has_failed(fake, tmp_path, monkeypatch):
    offer(monkeypatch, entry("mute", full=("silent",)))
    assert bench(tmp_path) == 1
    record = json.loads((tmp_path / "out" / "mute.json").read_text())
    assert "wrote no figures" in record["reason"] and "ratios" not in record


def test_what_cannot_run_here_is_named_with_its_mend_and_is_run_once_it_can(
    fake, tmp_path, monkeypatch, capsys
):
    missing = Finding("ray", False, "ray is missing", "pip install ray")
    offer(monkeypatch, entry("here"), entry("elsewhere", needs=lambda: missing))
    assert bench(tmp_path) == 0
    said = capsys.readouterr()
    assert "not run: elsewhere, ray is missing → pip install ray" in said.err
    assert "not run: elsewhere, ray is missing → pip install ray" in said.out
    page = (tmp_path / "out" / "bench-throughput.md").read_text()
    assert "**Not run**: ray is missing. To mend it: pip install ray" in page
    record = json.loads((tmp_path / "out" / "elsewhere.json").read_text())
    assert record["command"] == "mmzero bench throughput" and record["revision"]
    missing = None
    offer(monkeypatch, entry("here"), entry("elsewhere"))
    bench(tmp_path)
    assert len(calls(fake)) == 2


def test_quick_mode_names_what_it_leaves_out(fake, tmp_path, monkeypatch, capsys):
    offer(monkeypatch, entry("small"), entry("large", quick=None))
    assert bench(tmp_path, "--quick") == 0
    assert "full mode only: large, it takes about 1 min" in capsys.readouterr().out
    page = (tmp_path / "out" / "bench-throughput.md").read_text()
    assert "**Full mode only**: it takes about 1 min" in page
    assert "Do not quote them" in page


def test_a_script_that_hangs_is_ended_with_all_that_it_started(fake, tmp_path, monkeypatch):
    (fake / "hanging.py").write_text(
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    monkeypatch.setattr(throughput, "LEAST_PATIENCE", 1.5)
    slow = dataclasses.replace(entry("hanging"), module="hanging", quick_seconds=0.0)
    with pytest.raises(throughput.ScriptError, match="it hangs"):
        throughput.call(slow, True, tmp_path / "out")
    pid = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_results_are_published_and_stay_where_nothing_new_was_measured(
    fake, tmp_path, monkeypatch, capsys
):
    offer(monkeypatch, entry("a"), entry("b"))
    assert bench(tmp_path, "--publish") == 0
    before = (throughput_page.RESULTS / "b.json").read_text()
    missing = Finding("x", False, "no x", "get x")
    offer(monkeypatch, entry("a"), entry("b", needs=lambda: missing), entry("c"))
    args = ("--publish", "--out", str(tmp_path / "later"))
    assert bench(tmp_path, *args, "--only", "b,c") == 0
    assert "b: not run; the result published before stays" in capsys.readouterr().out
    assert (throughput_page.RESULTS / "b.json").read_text() == before
    page = throughput_page.PAGE.read_text()
    assert page == throughput_page.page(throughput_page.read(throughput_page.RESULTS))
    assert page.count("python -m fake full") == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "renderin"], "Did you mean 'rendering'"),
        (["--skip", "nothing"], "unknown performance script"),
        (["--only", "scale", "--skip", "scale"], "nothing is left"),
        (["--quick", "--publish"], "too rough to publish"),
    ],
)
def test_a_request_that_cannot_be_is_refused_before_anything_runs(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        bench(tmp_path, *words)
    assert not (tmp_path / "out").exists()


def measured(**changes):
    return {
        "status": "measured",
        "command": "python -m x",
        "revision": "abc",
        "seeds": [],
        "machine": {"processor": "P", "numpy": "2"},
        "ratios": [],
        "tables": [{"title": "t", "columns": ["a<b"], "rows": [["x"]], "note": ""}],
        "notes": [],
        "seconds": 61.0,
        "cpu_seconds": 5.0,
        "load": {"start": 0.1, "end": 1.9, "cores": 2},
        "environment": {},
        **changes,
    }


def test_a_busy_machine_is_warned_of():
    calm, busy = measured(), measured(load={"start": 2.5, "end": 1.0, "cores": 2})
    page = throughput_page.page({"environment": calm, "scoring": busy})
    assert "**The machine was busy**" in page and "[scoring](#scoring). Do not quote" in page
    assert "was busy" not in throughput_page.page({"environment": calm})


def test_machines_that_differ_in_a_fact_are_told_apart():
    other = {"processor": "Q", "numpy": "2"}
    more = {"processor": "P", "lxml": "6"}
    page = throughput_page.page(
        {
            "environment": measured(),
            "scoring": measured(machine=other),
            "diversity": measured(machine=more),
        }
    )
    assert "|  | A | B |" in page and "| processor | P | Q |" in page
    assert "| lxml | 6 |  |" in page
    assert "| [diversity](#diversity) | measured | 1 min 1 s | 0.1 → 1.9 | A |" in page
    assert "a&lt;b" in page


def test_the_page_of_the_documentation_is_that_of_the_published_results():
    records = throughput_page.read(throughput_page.RESULTS)
    assert throughput_page.PAGE.read_text(encoding="utf-8") == throughput_page.page(records)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_a_command_of_the_catalogue_is_understood_by_its_script(entry, capsys):
    module = importlib.import_module(entry.module)
    parser = module.build_parser()
    for options in (entry.full, entry.quick or ()):
        assert parser.parse_args(["--json", "x.json", *options]).json.name == "x.json"
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--help"])
    assert stopped.value.code == 0 and "--json" in capsys.readouterr().out


def test_the_catalogue_holds_every_script_that_measures():
    folder = catalogue.ROOT / "benchmarks"
    scripts = {
        f"benchmarks.{path.stem}"
        for path in folder.glob("*.py")
        if "script.run(" in path.read_text(encoding="utf-8")
    }
    assert scripts == {entry.module for entry in CATALOGUE}
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)


def test_quick_mode_is_meant_to_end_in_three_minutes():
    assert sum(entry.quick_seconds for entry in CATALOGUE) <= 180
