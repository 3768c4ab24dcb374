"""The explorer: a read-only local web page over the store (`slf explore`).

Read in this order: `serve` (address and token), `guard` (who is let in), `app` (routes, errors), `explorer` (the store
as a role reads it, templates), then a file for each page: `overview`, `clips`, `snapshots`, `runs`, `evaluations`,
`faces`, and `media` (pictures, sound and video). `chart` draws lines. Nothing here writes, and no page has a script.
"""
