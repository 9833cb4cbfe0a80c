"""Folders of models from elsewhere: what could run code when it is read is refused before anything is read."""

from pathlib import Path

from helpers.errors import StudyError

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}  # unpickling one can run any code


def refuse_pickles(folder: Path) -> None:
    """Raise StudyError if a folder of a model holds pickles, even beside safetensors: none is ever loaded."""
    if pickles := sorted(path.name for path in folder.glob("*") if path.suffix.lower() in PICKLES):
        weights = "and no safetensors" if not any(folder.glob("*.safetensors")) else "beside safetensors"
        remedy = "save the model with save_pretrained()" if weights.startswith("and") else "move it out of the folder"
        raise StudyError(f"{folder} holds {pickles[0]} {weights}: loading a pickle can run code, so {remedy} first")
