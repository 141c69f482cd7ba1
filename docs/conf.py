"""Sphinx configuration: `sphinx-build -W docs docs/_build` fails on a broken link, a page in no index or an unresolved name."""

import explore_gym

project = "explore-gym"
author = "explore-gym contributors"
copyright = "explore-gym contributors"
version = release = explore_gym.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!explore_gym).*")]  # types of other libraries: their inventories would need the network

autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = "explore-gym"
