"""Results of other load generators become facts, and facts become runs of our own schema.

``facts`` says what a parser returns, ``registry`` finds the parser by what is in a file, each module named after a
tool reads that tool's files, ``metrics`` and ``records`` make runs of the facts. All of it is pure; only ``store``
touches the disk.
"""
