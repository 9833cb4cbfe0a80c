"""The tables of results: tidy CSV files with one written-down schema each, checked when written and when read."""

from pathlib import Path

import pandas as pd

from helpers.errors import StudyError
from helpers.files import write_text
from pipeline.results.schemas import OF_ONE_RUN
from pipeline.results.schemas_over_seeds import OVER_SEEDS

SCHEMAS = OF_ONE_RUN | OVER_SEEDS
SIGNIFICANT_DIGITS = 10  # of a number in a CSV: finer than any result here is known, and the same on every run


def check(name: str, table: pd.DataFrame, path: Path | None = None) -> None:
    """Raise StudyError unless the table (read from ``path``) has exactly the columns of its schema, in order."""
    expected, found = list(SCHEMAS[name]), list(table.columns)
    if found == expected:
        return
    missing, unknown = ([c for c in a if c not in b] for a, b in ((expected, found), (found, expected)))
    differences = [f"{words} {', '.join(some)}" for words, some in (("lacks", missing), ("adds", unknown)) if some]
    how = " and ".join(differences) or f"is in the order {', '.join(found)}"
    raise StudyError(
        f"the table {path or name} does not fit its schema, it {how}: it was made by another version, so delete it "
        "and run the same command again"
    )


def write_csv(path: Path, name: str, table: pd.DataFrame) -> None:
    """Write a checked table as CSV, whole or not at all; the same values always give the same bytes."""
    check(name, table)
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format=f"%.{SIGNIFICANT_DIGITS}g"))


def read_csv(path: Path, name: str) -> pd.DataFrame:
    """Read a table and check it against its schema; raises StudyError if it does not fit or is cut short."""
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=["", "nan"])
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise StudyError(f"{path} cannot be read ({error}): delete it and run the same command again") from None
    check(name, table, path)
    return table
