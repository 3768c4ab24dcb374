"""The synthetic sample: drawn faces and synthesised voices of nobody, in the official VoxCeleb2 layout.

``person`` says who somebody is: a few causes that face and voice share. ``look`` is one video's circumstances.
``anatomy`` → ``sketch`` → ``skin``, ``features``, ``hair`` → ``face`` draw the head with ``brush``; ``speech`` →
``voice`` speak; ``motion`` → ``scene`` move the head frame by frame; ``clip`` encodes one mp4; ``tree`` writes all.
"""
