"""From folders and tables to a list of clips, and what of it is kept for the next start.

observed_files  files and folders, looked at so that it is known what was seen
file_state      what changes when the content of a file changes
scanner         `scan`: the clips of folders and tables
stored_scan     a scan as bytes
snapshot        a scan, kept while nothing changes that it saw
"""
