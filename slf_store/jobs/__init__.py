"""The batch work itself: ingest, claim, extract a chunk, seal, commit, gc."""
