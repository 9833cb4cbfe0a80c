"""What is said of every method on the bench: by its paper, and by the first line of its own text here."""

from pathlib import Path

import pandas as pd
import yaml

from helpers.studies.values import METHODS

CLAIMS = yaml.safe_load(Path(__file__).with_name("papers.yml").read_text(encoding="utf-8"))


def descriptions(methods: list[str]) -> pd.DataFrame:
    """What each method does and what its paper says (columns ``method``, ``does``, ``claimed``), in their order.

    A method of one's own has no paper: its ``claimed`` is empty.
    """
    does = [METHODS[name].summary for name in methods]
    return pd.DataFrame({"method": methods, "does": does, "claimed": [CLAIMS.get(name, "") for name in methods]})
