"""How Sphinx builds the docs site: `make docs` writes it to build/site. Every warning is an error, a bad link too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import reference_pages

project = "dapa_exp"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
include_patterns = ["docs/**", "multirun/README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
html_theme = "furo"
html_title = "dapa_exp"
html_show_copyright = False
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True, "exclude-members": "model_config"}


def setup(app) -> None:
    """Write the generated pages before Sphinx reads the folder."""
    app.connect("builder-inited", lambda app: reference_pages.write(Path(app.srcdir) / "docs" / "reference"))
