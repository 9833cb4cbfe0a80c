"""What runs the notebooks and publishes them; nothing here changes a number."""

import helpers  # noqa: F401 (spares jsonschema an import of a second: here, so that it comes before papermill's)
