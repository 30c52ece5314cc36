"""Sphinx: the pages of this folder as a website, built by `make docs` with warnings as errors."""

import serx

project = "serx"
copyright = "the authors of serx"
release = serx.__version__
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "serx"
