"""What the task files of this folder need; it runs inside lmms-eval, not inside MM-Zero."""

from __future__ import annotations

from typing import Any


def pictures(doc: dict[str, Any]) -> list[Any]:
    """The pictures of an item, in order: one picture or a list in the column of pictures."""
    found = doc.get("image", doc.get("images"))
    listed = found if isinstance(found, list | tuple) else [found]
    return [picture.convert("RGB") for picture in listed if picture is not None]


def question(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, str] | None = None) -> str:
    """The question between what a run of lmms-eval asks to put before and after it."""
    around = lmms_eval_specific_kwargs or {}
    text = str(doc.get("problem", doc.get("question", ""))).replace("<image>", "").strip()
    return f"{around.get('pre_prompt', '')}{text}{around.get('post_prompt', '')}"


def exact(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the last box, or the whole text if there is none, is the answer letter by letter.

    Case, blanks and one pair of brackets do not count.
    """
    return {"exact": float(_bare(boxed(results[0])) == _bare(str(doc["answer"])))}


def boxed(text: str) -> str:
    r"""The content of the last ``\boxed{...}`` with its braces balanced, else the whole text."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return text
    start += len("\\boxed{")
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place].strip()
    return text


def _bare(text: str) -> str:
    squeezed = "".join(text.split()).lower().rstrip(".")
    return squeezed[1:-1] if squeezed.startswith("(") and squeezed.endswith(")") else squeezed
