"""Random programs, run beside the reference: cases, how they are drawn, compared and kept.

``case`` is what a random program is as data, ``networks`` and ``trial`` what follows from it,
``drawing`` draws it, ``differential`` runs it beside the reference, ``failure`` keeps one that
differs, ``chunk`` and ``campaign`` run thousands of them.
"""
