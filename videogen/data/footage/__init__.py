"""Any folder of video files as training clips: found, read, planned, reported, and given out in batches."""
