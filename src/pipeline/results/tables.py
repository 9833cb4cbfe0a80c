"""The tables of results: tidy CSV files with one written-down schema each, checked when written and when read."""

from pathlib import Path

import pandas as pd

from helpers.errors import StudyError
from helpers.evaluation.measures import GRID_MEASURES, MEASURES
from helpers.files import write_text
from helpers.studies.yaml_files import read_yaml

INCLUDE = "include "  # before the name of a block whose columns stand in its place
LATER = "later "  # before the name of a column that tables lack which were published before there was such
SIGNIFICANT_DIGITS = 10  # of a number in a CSV: finer than any result here is known, and the same on every run


def read_schemas() -> dict[str, dict[str, str]]:
    """The schemas in ``schemas.yml``: of each table its columns, in order, and what each holds."""
    written = read_yaml(Path(__file__).with_name("schemas.yml"), "get it again with `git checkout`")
    blocks = written["blocks"] | {"measures": {name: MEASURES[name] for name in GRID_MEASURES}}
    schemas: dict[str, dict[str, str]] = {table: {} for table in written["tables"]}
    for table, columns in written["tables"].items():
        for name, meaning in columns.items():
            schemas[table] |= blocks[name.removeprefix(INCLUDE)] if name.startswith(INCLUDE) else {name: meaning}
    return schemas


_WRITTEN = read_schemas()
SCHEMAS = {table: {name.removeprefix(LATER): of for name, of in columns.items()} for table, columns in _WRITTEN.items()}


def check(name: str, table: pd.DataFrame, path: Path | None = None) -> None:
    """Raise StudyError unless the table (read from ``path``) has exactly the columns of its schema, in order.

    One that is read may lack columns that were added later.
    """
    found = list(table.columns)
    lacking = {f"{LATER}{column}" for column in SCHEMAS[name] if path and column not in found}
    expected = [column.removeprefix(LATER) for column in _WRITTEN[name] if column not in lacking]
    if found == expected:
        return
    missing, unknown = ([c for c in a if c not in b] for a, b in ((expected, found), (found, expected)))
    differences = [f"{words} {', '.join(some)}" for words, some in (("lacks", missing), ("adds", unknown)) if some]
    how = " and ".join(differences) or f"is in the order {', '.join(found)}"
    raise StudyError(
        f"the table {path or name} does not fit its schema, it {how}: it was made by another version, so delete it "
        "and run the same command again"
    )


def write_csv(path: Path, name: str, table: pd.DataFrame, digits: int = SIGNIFICANT_DIGITS) -> None:
    """Write a checked table as CSV, whole or not at all; the same values always give the same bytes."""
    check(name, table)
    write_text(path, table.to_csv(index=False, lineterminator="\n", float_format=f"%.{digits}g"))


def read_csv(path: Path, name: str) -> pd.DataFrame:
    """Read a table and check it against its schema; raises StudyError if it does not fit or is cut short.

    Columns that are younger than the table have no values.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=["", "nan"])
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise StudyError(f"{path} cannot be read ({error}): delete it and run the same command again") from None
    check(name, table, path)
    return table.reindex(columns=list(SCHEMAS[name]))
