"""Makes pages that link into the repository work as a site.

The same pages are read in the repository, where these links lead to files: results of
benchmarks come along into the site, CONTRIBUTING.md is a page of it, and a link to a source
file becomes its name.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[2]
_SHOWN = (".svg", ".png", ".json")
_SOURCE = re.compile(r"\[(`[^`]+`)\]\(\.\./[\w/.-]+\.py\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the published results under ``results/``."""
    results = _ROOT / "benchmarks" / "results"
    for path in sorted(results.rglob("*")):
        if path.suffix in _SHOWN:
            name = f"results/{path.relative_to(results).as_posix()}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Turns links into the repository into links of the site."""
    markdown = markdown.replace("](../benchmarks/results/", "](results/")
    markdown = markdown.replace("](../CONTRIBUTING.md)", "](contributing.md)")
    return _SOURCE.sub(r"\1", markdown)
