"""One line for every subspace, edit and judge that a study can choose: ``python -m helpers.methods``."""

from helpers.doors import FOLDERS, entries

if __name__ == "__main__":
    for kind in FOLDERS:
        for entry in entries(kind):
            print(f"{kind:9} {entry.name:20} {entry.summary}")
