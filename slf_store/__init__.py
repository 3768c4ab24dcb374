"""slf-store: a database-backed multimodal feature store for face-and-speech research."""

__version__ = "0.1.0"
