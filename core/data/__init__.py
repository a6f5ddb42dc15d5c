"""From an annotation table to batches: decoding, cache, dataset, loader, data check."""
