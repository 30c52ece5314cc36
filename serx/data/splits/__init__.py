"""Which clips train, validate and test, and that these parts share nothing.

protocol_config  `ProtocolConfig`: the settings of a split
published_folds  who tests and validates in published folds
speaker_choice   who tests and who validates
clip_draw        a random part of the clips
protocols        `make_split`: the parts
leaks            no speaker and no copy of a clip in two parts
"""
