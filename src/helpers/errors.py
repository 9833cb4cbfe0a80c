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


class TensorMismatch(StudyError):
    """Two checkpoints that should hold the same tensors do not, or a tensor holds NaN or infinity."""
