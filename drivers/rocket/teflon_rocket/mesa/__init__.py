"""Strategy `mesa`: what Mesa 26.2.6 programs, mistakes included, to compare with recordings."""
