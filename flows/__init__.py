"""Prefect flows: scheduling around slf_store's jobs, no logic of their own."""
