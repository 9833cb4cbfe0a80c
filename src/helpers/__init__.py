"""Helpers for the notebooks of *Safety Subspaces are Not Linearly Distinct: a reproduction*.

The package owns what is the subject of the study (subspaces, projections, overlaps, activation
capture, claims); training, generation, plotting and workflow are left to the libraries made for them.
"""

import sys

__version__ = "0.1.0"

# jsonschema, which checks notebooks, imports this to check addresses, of which they have none: 1.4 s in every process
sys.modules.setdefault("rfc3987_syntax", None)
