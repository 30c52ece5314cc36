"""A page in the browser that shows what a model predicts: `serx demo`.

analysis.py   a recording -> its prediction and its parts, within limits
html.py       predictions as HTML, in which whatever a user named is escaped
answers.py    what the page answers: predictions, explanations, adaptation to a voice
app.py        the page (gradio), and how it is served
"""
