"""Training data: footage, captioned worlds and the batches made of them."""
