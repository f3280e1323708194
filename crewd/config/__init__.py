"""Settings, assembled from the options that the parts own."""
