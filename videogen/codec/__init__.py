"""The codec: pixels to latents of unit variance and back, whole or as a stream."""
