"""How often claims about pictures are checked, caught and wrongly accused, and what it costs.

    python -m benchmarks.grounding [--specs 500] [--seed 0] [--out FILE]

Over the procedural world, an easy and a hard question a spec: the true reasoning must hold
no false claim; of the reasoning of a misread spec (each element misread with probability
one half) the wrong statements of the survey should be caught, and the right ones not
accused. Then CPU time, the guard's on the same pictures beside it; the picture is read
once, and its answers are checked against the scene.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.interval import over_items
from benchmarks.provenance import provenance, write_result
from benchmarks.svg_corpus import FOLDER
from mmzero_env import world
from mmzero_env.grounding import Scene, check_claims, read_scene
from mmzero_env.protocol import QUESTIONS
from mmzero_env.rendering.guard import vet
from mmzero_env.world.proposals import solution_text
from mmzero_env.world.spec import Spec

ROUNDS = 5


def scene_of(svg: str) -> Scene:
    """The scene of a picture that the guard lets through."""
    scene = read_scene(svg)
    assert isinstance(scene, Scene), scene
    return scene


def true_reasoning(specs: Sequence[Spec], rng: random.Random) -> dict[str, Any]:
    """Claims in the true reasoning about true pictures."""
    found = []
    for spec in specs:
        scene = scene_of(spec.svg())
        for level in QUESTIONS:
            item = spec.solve(spec.ask(level, rng))
            assert item is not None
            found.append(check_claims(solution_text(item), scene))
    return {
        "answers": len(found),
        "with_claims": over_items([float(c.checked > 0) for c in found]).as_json(),
        "claims_an_answer": sum(c.checked for c in found) / len(found),
        "claims": sum(c.checked for c in found),
        "false": sum(c.false for c in found),
    }


def misread_reasoning(specs: Sequence[Spec], rng: random.Random) -> dict[str, Any]:
    """Claims in the reasoning of misread pictures."""
    answers, caught, accused, right, beyond = [], [], 0, 0, 0
    for spec in specs:
        scene = scene_of(spec.svg())
        item = spec.solve(spec.ask("hard", rng))
        misread = spec.misread(rng, 0.5)
        seen = misread.solve(item.question) if item else None
        if seen is None or not seen.listing:
            continue
        claims = check_claims(solution_text(seen), scene)
        verdicts = {claim.text: claim.verdict for claim in claims.claims}
        wrong = [entry for entry in misread.entries() if entry not in spec.entries()]
        kept = [entry for entry in misread.entries() if entry in spec.entries()]
        caught += [float(verdicts.get(entry) == "false") for entry in wrong]
        accused += sum(verdicts.get(entry) == "false" for entry in kept)
        right += len(kept)
        read = [claim for claim in claims.claims if claim.kind in ("value", "cell")]
        beyond += sum(claim.verdict == "false" for claim in read) > len(wrong)
        if wrong:
            answers.append(float(claims.false > 0))
    return {
        "answers_with_errors": len(answers),
        "answers_caught": over_items(answers).as_json(),
        "wrong_statements": len(caught),
        "wrong_caught": over_items(caught).as_json(),
        "right_statements": right,
        "right_accused": accused,
        "more_accused_than_wrong": beyond,
    }


def fastest(work: Callable[[], object]) -> float:
    """CPU seconds of the fastest of some rounds."""
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def costs(specs: Sequence[Spec], rng: random.Random) -> list[tuple[str, float, float]]:
    """What is done, milliseconds each, and the same in units of vetting such a picture."""
    rows = []
    corpus = [path.read_text("utf-8") for path in sorted((FOLDER / "valid").glob("*.svg"))]
    for name, codes in (("world", [spec.svg() for spec in specs]), ("corpus", corpus)):

        def vet_all(codes: Sequence[str] = codes) -> None:
            for code in codes:
                vet(code)

        def read_all(codes: Sequence[str] = codes) -> None:
            for code in codes:
                read_scene(code)

        guard, reading = fastest(vet_all) / len(codes), fastest(read_all) / len(codes)
        rows.append((f"{name}: the guard alone", guard * 1e3, 1.0))
        rows.append((f"{name}: a scene, guard included", reading * 1e3, reading / guard))
        if name == "world":
            pairs = []
            for spec in specs:
                item = spec.solve(spec.ask("hard", rng))
                assert item is not None
                pairs.append((solution_text(item), scene_of(spec.svg())))

            def check_all(pairs: Sequence[tuple[str, Scene]] = tuple(pairs)) -> None:
                for text, scene in pairs:
                    check_claims(text, scene)

            checking = fastest(check_all) / len(pairs)
            rows.append((f"{name}: an answer", checking * 1e3, checking / guard))
    return rows


def main() -> None:
    """Measure and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specs", type=int, default=500, help="a kind of picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write a JSON file, too")
    args = parser.parse_args()
    result: dict[str, Any] = {
        **provenance(("python", "-m", "benchmarks.grounding", *sys.argv[1:]), [args.seed]),
        "specs": args.specs, "true": {}, "misread": {},
    }  # fmt: skip
    every = []
    for kind in world.KINDS:
        rng = random.Random(f"grounding/{args.seed}/{kind}")
        specs = [world.sample_spec(rng, kind) for _ in range(args.specs)]
        result["true"][kind] = true_reasoning(specs, rng)
        result["misread"][kind] = misread_reasoning(specs, rng)
        every += specs[:40]
    print("| true reasoning | answers | with a checkable claim | claims an answer | false |")
    print("|---|---|---|---|---|")
    for kind, row in result["true"].items():
        print(
            f"| {kind} | {row['answers']} | {row['with_claims']['mean']:.3f} | "
            f"{row['claims_an_answer']:.2f} | {row['false']} of {row['claims']} |"
        )
    print(
        "\n| misread | answers caught | wrong statements caught | right ones accused | "
        "answers with more accused than wrong |"
    )
    print("|---|---|---|---|---|")
    for kind, row in result["misread"].items():
        wrong, whole = row["wrong_caught"], row["answers_caught"]
        print(
            f"| {kind} | {_share(whole)} of {row['answers_with_errors']} | {_share(wrong)} of "
            f"{row['wrong_statements']} | {row['right_accused']} of {row['right_statements']} | "
            f"{row['more_accused_than_wrong']} |"
        )
    print("\n| CPU time | ms | times the guard |")
    print("|---|---|---|")
    result["cost"] = costs(every, random.Random(args.seed))
    for name, milliseconds, ratio in result["cost"]:
        print(f"| {name} | {milliseconds:.2f} | {ratio:.2f} |")
    if args.out:
        write_result(args.out, result)


def _share(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


if __name__ == "__main__":
    main()
