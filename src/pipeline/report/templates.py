"""The report's pages as templates, Markdown and HTML in ``templates/``: what is filled in is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from helpers.studies.ledger import label_of, meaning_of, plainly


def render(name: str, **values: object) -> str:
    """A template filled in. Values are escaped; results of macros and of other templates are not escaped again."""
    return ENVIRONMENT.get_template(name).render(**values)


ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
ENVIRONMENT.filters |= {
    "label": label_of,  # of a statistic
    "meaning": meaning_of,
    "plainly": plainly,  # a text that names statistics
    "pattern": format,  # by Python's patterns, such as ,  or .0%
    "markdown": lambda text: Markup(text.replace("<", "&lt;")),  # text of a settings file that may hold links
}
ENVIRONMENT.tests["nan"] = lambda value: value != value
