"""The report of a run: one HTML file that loads nothing, for a run of any length.

:func:`write` turns a run directory into ``report.html``; :func:`episode_page` and
:func:`episode_html` show one recorded episode. Everything a model wrote is escaped, and the
page's own content policy forbids the network and every script but the one that filters.
"""

from __future__ import annotations

from trainers.report.document import LIMIT, Written, render, write
from trainers.report.episode import episode_html, episode_page
from trainers.report.pages import printable
from trainers.report.pictures import Pictures
from trainers.report.run_data import Estimate, Probe, RunData, load

__all__ = [
    "LIMIT",
    "Estimate",
    "Pictures",
    "Probe",
    "RunData",
    "Written",
    "episode_html",
    "episode_page",
    "load",
    "printable",
    "render",
    "write",
]
