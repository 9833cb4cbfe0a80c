"""The report as an RO-Crate 1.2: ``ro-crate-metadata.json``, which tells archives and programs what its files are.

https://w3id.org/ro/crate/1.2, written by ``rocrate``, the library of those who made the format.
"""

import hashlib
from pathlib import Path

import yaml

from helpers.paths import ROOT
from pipeline.results import project
from pipeline.results.provenance import revision

NAME = "ro-crate-metadata.json"
FORMATS = {".csv": "text/csv", ".json": "application/json", ".yml": "application/yaml", ".js": "text/javascript"}


def write_crate(folder: Path) -> None:
    """Describe the files that the report serves as they are, which lie in ``folder``, with their hashes (SHA-256).

    Its date is that of the version, so that a report that is made again is the same.
    """
    from rocrate.model import ContextEntity  # here: a report that is up to date need not wait for it
    from rocrate.rocrate import ROCrate

    about = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    [paper] = about["references"]
    entities = {
        "#authors": {"@type": "Organization", "name": about["authors"][0]["name"]},
        "https://spdx.org/licenses/MIT": {"@type": "CreativeWork", "name": about["license"]},
        paper["url"]: {"@type": "ScholarlyArticle", "name": paper["title"]},
        project.repository() or "#code": {
            "@type": "SoftwareSourceCode",
            "name": about["title"],
            "version": project.version(),
            "identifier": revision()["git_revision"],
        },
    }
    crate = ROCrate(version="1.2")
    authors, licence, article, code = (
        crate.add(ContextEntity(crate, name, properties=facts)) for name, facts in entities.items()
    )
    crate.name, crate.description, crate.keywords = about["title"], about["abstract"].strip(), about["keywords"]
    crate.datePublished, crate.license, crate.creator = about["date-released"], licence, authors
    crate.isBasedOn = [article, code]
    html = {"name": "The report", "encodingFormat": "text/html"}
    crate.mainEntity = crate.add_file(dest_path="index.html", properties=html)
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != NAME):
        crate.add_file(dest_path=path.relative_to(folder).as_posix(), properties=_facts(path))
    crate.metadata.write(folder)


def _facts(path: Path) -> dict[str, str]:
    """What is said of a file."""
    content = path.read_bytes()
    facts = {"encodingFormat": FORMATS.get(path.suffix, "application/octet-stream"), "contentSize": str(len(content))}
    return facts | {"sha256": hashlib.sha256(content).hexdigest()}
