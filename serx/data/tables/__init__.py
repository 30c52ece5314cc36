"""Tables of recordings: a clip in each row.

columns         which column means what
table           `Table`: rows of text, however they are stored
text            CSV, whatever its encoding and separator, and JSON
arrow           Parquet and Arrow, with the audio inside
reading         the tables of a file or of the folder of a Hugging Face dataset
audformat       tables of audEERING databases
cells           what single cells say
audio_finder    the file that a cell names
contradictions  rows that say different things about a file or a speaker
manifest        `read_manifest`: your own recordings, listed in a table
"""
