"""Results as HTML pages: one file each, without scripts, readable without the internet, on a phone and in the dark.

evaluation_page.py         the page of an evaluation
cross_validation_page.py   the same page for a cross-validation
ratings_page.py            the page of a model of dimensions such as arousal
comparison_page.py         the page of a comparison of runs
sections.py                what the pages of an evaluation share
curves.py                  learning curves
clips.py                   the most confident mistakes, with sound and spectrogram
clip_map.py                a map of clips by what the network computes of them
charts.py                  charts as SVG
render.py                  the templates, which escape whatever a user named
"""

from serx.pages.charts import Line, line_chart
from serx.pages.clips import clip_explainer, clip_reader, confident_mistakes
from serx.pages.comparison_page import comparison_page
from serx.pages.cross_validation_page import cross_validation_page
from serx.pages.evaluation_page import evaluation_page, map_of_clips, stress_of
from serx.pages.sections import Absent, Reproduction

__all__ = [
    "Absent",
    "Line",
    "Reproduction",
    "clip_explainer",
    "clip_reader",
    "comparison_page",
    "confident_mistakes",
    "cross_validation_page",
    "evaluation_page",
    "line_chart",
    "map_of_clips",
    "stress_of",
]
