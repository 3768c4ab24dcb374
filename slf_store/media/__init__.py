"""Decoding clips, 24 s speech, face detection and crop."""
