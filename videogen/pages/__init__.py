"""HTML for reports and notebooks: skeleton and look, clips that play, drawings."""
