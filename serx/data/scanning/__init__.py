"""From folders and tables to a list of clips, and what of it is kept for the next start.

scanner      `scan`: the clips of folders and tables
stored_scan  a scan as bytes
snapshot     a scan, kept while nothing changes that it saw
"""
