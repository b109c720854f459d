"""Measures of what was generated, each with what it was measured on; `docs/metrics.md` defines them."""
