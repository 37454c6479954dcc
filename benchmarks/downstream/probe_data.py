"""The probe as a local data set in the layout that ``datasets`` reads without network."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from mmzero_env.errors import EngineError
from mmzero_env.protocol import QUESTIONS, RenderJob
from mmzero_env.rendering import Renderer
from mmzero_env.world import SIDE
from mmzero_env.world.probe import probe_items
from trainers import atomic


def write(folder: Path, *, pictures: int, seed: int) -> Path:
    """Write the probe: a folder of pictures with their questions and true answers.

    The layout is ``datasets``' image folder: ``test/metadata.jsonl`` with a line a question
    (``file_name``, ``question``, ``answer``, ``level``), easy and hard of a picture one after
    the other, beside the pictures as PNG.

    Args:
        folder: Gets its name when it is complete; one that is there already is kept.
        pictures: How many, two questions each.
        seed: Chooses them; the same as that of ``--suite probe``.

    Returns:
        The folder.

    Raises:
        EngineError: If a picture of the probe does not render.
    """
    if folder.is_dir():
        return folder
    items = probe_items(pictures, seed)
    with Renderer(size=SIDE) as renderer:
        drawings = renderer.render([RenderJob(item.id, item.spec.svg()) for item in items])
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_folder(folder) as draft:
        (draft / "test").mkdir()
        lines = []
        for item, drawing in zip(items, drawings, strict=True):
            if drawing.image is None:
                raise EngineError(f"the picture of {item.id} does not render: {drawing.failure}")
            name = f"{item.id.replace('/', '-')}.png"
            Image.fromarray(drawing.image).save(draft / "test" / name)
            for level in QUESTIONS:
                asked = item.questions[level]
                line = {"file_name": name, "question": asked.question, "answer": asked.answer}
                lines.append(json.dumps({**line, "level": level}) + "\n")
        (draft / "test" / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder
