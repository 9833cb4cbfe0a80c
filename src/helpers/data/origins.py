"""Where the files of a data set are: unpacked from a package, downloaded from the hub, or in a folder of the user's."""

from pathlib import Path

from helpers import paths
from helpers.errors import StudyError
from helpers.studies.sections import Origin


def hub_folder(name: str, origin: Origin, patterns: list[str]) -> Path:
    """Download what matches ``patterns`` at the origin's pinned revision, or find it downloaded before.

    Raises StudyError, one sentence with the remedy, if the data set is gated, not there, or cannot be reached.
    """
    from huggingface_hub import errors, snapshot_download  # here: only studies with data of the hub wait for it

    where = f"data.{name}: the data set {origin.id} on the hub"
    instead = "or give a local copy with `origin: folder`"
    try:
        return Path(
            snapshot_download(origin.id, repo_type="dataset", revision=origin.revision, allow_patterns=patterns)
        )
    except errors.GatedRepoError:
        remedy = f"accept its licence on its page there and put an access token in the variable HF_TOKEN, {instead}"
        raise StudyError(f"{where} is gated: {remedy}") from None
    except errors.RevisionNotFoundError:
        raise StudyError(f"{where} has no revision {origin.revision!r}: correct it in the study's settings") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        remedy = f"correct the id, or, if it is private, put an access token in the variable HF_TOKEN, {instead}"
        raise StudyError(f"{where} does not exist: {remedy}") from None
    except Exception as error:  # the client raises errors of several network libraries
        kind = type(error).__name__
        raise StudyError(
            f"{where} cannot be reached ({kind}): check the network (and HF_HUB_OFFLINE), {instead}"
        ) from None


def folder(name: str, origin: Origin) -> Path:
    """The folder of an origin 'folder'; a relative path counts from the clone. Raises StudyError if there is none."""
    path = paths.ROOT / Path(origin.path).expanduser()
    if not path.is_dir():
        raise StudyError(f"data.{name}: the folder {path} does not exist: correct `path` in the study's settings")
    return path


def matching(name: str, place: Path, layouts: list[list[str]]) -> tuple[int, list[Path]]:
    """The first layout of which every pattern has files below ``place``: its number and its files, in order.

    Raises StudyError, naming the files that were looked for.
    """
    for number, patterns in enumerate(layouts):
        found = [sorted(place.glob(pattern)) for pattern in patterns]
        if all(found):
            return number, [file for files in found for file in files]
    wanted = ", or ".join(" and ".join(patterns) for patterns in layouts)
    raise StudyError(f"data.{name}: {place} holds none of the files that were looked for ({wanted}): check the origin")
