"""Networks that generate: one file for each, and the attention and embeddings that they share."""
