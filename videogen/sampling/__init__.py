"""Everything between noise and latents: schedulers, guidance and noise for each sample."""
