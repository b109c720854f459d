"""What of a clip is known beforehand: masks of pixels, and the condition that a denoiser reads them from."""
