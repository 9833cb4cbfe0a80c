"""Helpers for the notebooks of *Safety Subspaces are Not Linearly Distinct: a reproduction*.

The package owns what is the subject of the study (subspaces, projections, overlaps, activation
capture, claims); training, generation, plotting and workflow are left to the libraries made for them.
"""

__version__ = "0.1.0"
