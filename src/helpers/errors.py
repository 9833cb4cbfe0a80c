"""The one exception users are meant to read: a sentence that names the cause and the remedy."""


class StudyError(Exception):
    """Something the user can put right. Its text is one sentence: what is wrong, where, and what to do.

    IPython prints the sentence alone, without a traceback, in JupyterLab and in executed notebooks.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class SettingsError(StudyError):
    """A study file or a notebook parameter has an unknown key, a wrong type or an impossible value."""


class MissingInput(StudyError):
    """A notebook needs a result that is not there yet."""


class Unwritable(StudyError):
    """A result cannot be written: the disk is full, or the folder read-only. ``reason`` is the system's word for it."""

    def __init__(self, path: object, error: Exception):
        self.reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or " ".join(str(error).split())
        super().__init__(
            f"{path} cannot be written ({self.reason}): free space there, or make the folder writable, and run the "
            "same command again"
        )


class Damaged(StudyError):
    """A result is no longer what it was when it was written."""


class TensorMismatch(StudyError):
    """Two checkpoints that should hold the same tensors do not, or a tensor holds NaN or infinity."""
