"""Clips decoded once.

shards       flat files of samples, and their indexes
audio_cache  `open_audio_cache`: decodes what is not there yet
clip_reader  reads clips from the files
"""
