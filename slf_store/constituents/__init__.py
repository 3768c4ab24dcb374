"""Constituents: the registry and one file per extractor."""
