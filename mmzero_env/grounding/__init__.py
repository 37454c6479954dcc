"""What a Solver says it sees, checked against the geometry of the SVG that it looked at.

:func:`read_scene` gives the elements that a viewer sees; :func:`check_claims` finds claims
about them in an answer and says how many could be checked and how many of these are false.
Both are pure and deterministic, and neither raises on anything that a model wrote.

Understood in plain English and in the terse reasoning of the bundled model: counts,
presence of coloured shapes and of quoted texts, values at a key (written, by lengths of
bars, by tick labels, by places on a bare axis), cells of a board, relative position,
extremes and comparisons, links of diagrams. A claim is *checked* only if everything that
it names is found once and for certain; all others count for nothing.

Not covered, and never punished:

* curves of line charts, points of scatter plots, sizes of pie slices, areas, angles,
  stacked and grouped bars, bars that hang from a line;
* tables of more than two columns, maps, and everything behind masks, clip paths, unknown
  filters, raster images and outlines with arcs of ellipses;
* colours between two words, gradients and patterns; shapes drawn as closed curves, or put
  together from lines or from other shapes that touch;
* claims about a part of the picture ("in the top row"), by number ("the second bar"), with
  a pronoun, in a hypothesis, a question or a sentence that takes something back; sums and
  all that follows by thinking; other languages;
* what an answer leaves out: it may be silent about everything.

Where only lengths are known, the number of false values is the least that any scale
allows, so which of them are the false ones may be told wrongly, but never too many.
Places of texts are estimated from the number of their letters. ``docs/grounding.md`` has
the figures.
"""

from mmzero_env.grounding.check import Claim, Claims, check_claims
from mmzero_env.grounding.reader import document_scene, read_scene
from mmzero_env.grounding.scene import Element, Scene

__all__ = [
    "Claim",
    "Claims",
    "Element",
    "Scene",
    "check_claims",
    "document_scene",
    "read_scene",
]
