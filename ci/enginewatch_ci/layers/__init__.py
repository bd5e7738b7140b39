"""Layers of engines: two of them aligned and compared, one under a roofline, what precision it really runs in. Pure.

Rows of the table of layers become ``LayerFacts`` (``facts``); ``align`` says which layers of two engines do the same
work, ``waterfall`` what each piece of work adds to the change, ``roofline`` what bounds a layer, ``histogram`` which
dtypes an engine computes in and what conversions cost, ``text`` writes it for a terminal.
"""
