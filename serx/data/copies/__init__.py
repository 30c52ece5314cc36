"""Which clips hold the same recording, however it was altered.

candidates            pairs of clips with similar spectrograms
whitened_correlation  of their waveforms
pairs                 `copies_among`: the candidates that are copies
search                the same among decoded clips, with its results stored
duplicates            a dataset without what a corpus holds twice
"""
