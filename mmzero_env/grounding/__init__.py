"""What a Solver says it sees, checked against the geometry of the SVG that it looked at."""

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
