"""The subspaces of the paper, the leading modes of the alignment and of the safety update, and their counterpart."""

from helpers.methods.context import Context
from helpers.methods.door import subspace
from helpers.subspaces import Modes


@subspace("alignment")
def alignment(tensor: str, context: Context) -> Modes:
    """Left singular vectors of D_A = WA − W0, what alignment changed."""
    return context.modes("alignment", tensor)


@subspace("safety", twin="unrelated")
def safety(tensor: str, context: Context) -> Modes:
    """Left singular vectors of D_S = WS − W0, what training on safe answers alone changed."""
    return context.modes("safety", tensor)


@subspace("unrelated")
def unrelated(tensor: str, context: Context) -> Modes:
    """Left singular vectors of what fine-tuning the base model on harmless rows alone changed."""
    return context.modes("unrelated", tensor)
