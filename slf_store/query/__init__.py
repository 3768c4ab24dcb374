"""Selection, snapshot, systems, layout, sample order, loader."""
