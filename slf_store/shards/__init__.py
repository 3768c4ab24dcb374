"""HDF5 shards: one sealed file holding one constituent version for many clips. Never imports the database."""
