"""Text conditioning: prompts to embeddings and their mask, under one contract."""
