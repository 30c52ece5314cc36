"""From a file to samples at the model's rate, or an error with a reason.

config      `AudioConfig`: how a file becomes a waveform
error       `AudioError`: a file that cannot be used, with a reason
paths       which files are audio by their endings, and all those of a folder
damage      whether a file is cut off or damaged, by what its container says
ffmpeg      reads what libsndfile does not: AAC, AMR, WMA, videos
sound_file  opens a file by either library and reads its samples
levels      what is too loud, silent or not a number, and a constant offset
channels    several channels become one
resampling  sample rates
trimming    silence cut off both ends
clip        decoded samples, checked, resampled and trimmed
decoding    `read_audio`, `decode`: all of these for one file
segments    the same for parts of a long one
mp3         an MP3 of a waveform, for pages
"""
