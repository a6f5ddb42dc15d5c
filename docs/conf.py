"""Sphinx's settings for the site of these pages, which ``python docs/build.py`` builds.

The sources are those of the whole repository, so that a page's links to other files hold in the site, too.
"""

from __future__ import annotations

from densedet import __version__

project = "densedet"
author = copyright = "the authors of densedet"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "BENCHMARKS.md",
    "docs/**.md",
    "examples/*.ipynb",
    "examples/densedet-lite-head/README.md",
]
exclude_patterns = [".*", "build", "runs", "tests"]
html_theme = "furo"
html_title = "densedet"
html_additional_pages = {"index": "home.html"}
templates_path = ["templates"]
html_extra_path = ["example_report"]
nb_execution_mode = "off"  # the tests run the notebooks
myst_heading_anchors = 3
highlight_language = "none"
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
