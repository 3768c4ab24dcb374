"""People's data: erasure, receipts, the block list, the audit log."""
