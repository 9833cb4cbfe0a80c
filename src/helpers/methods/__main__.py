"""One line for every subspace, edit, training and judge that a study can choose: ``python -m helpers.methods``."""

from helpers.studies.doors import tenants

if __name__ == "__main__":
    for folder, kind in (
        ("methods", "subspace"),
        ("methods", "edit"),
        ("methods", "training"),
        ("evaluation/judges", "judge"),
    ):
        for tenant in tenants(folder, kind).values():
            print(f"{kind:9} {tenant.name:14} {tenant.summary}")
