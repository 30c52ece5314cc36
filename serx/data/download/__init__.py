"""Download published corpora: checked addresses and digests, resumable, and nothing unpacked unchecked.

sources     which corpora there are, their licenses and files; `download`
fetch       one file over https
archives    unpack an untrusted zip or tar
"""

from serx.data.download.sources import SOURCES, Source, download

__all__ = ["SOURCES", "Source", "download"]
