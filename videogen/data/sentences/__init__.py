"""English sentences with the meaning of each, without end, to train text encoders on."""
