"""
Benchmarks of the package against plain Django, other packages of encrypted fields, and the targets that are set for it.

``python -m benchmarks`` runs them and prints one table; ``benchmarks.__main__`` has the options. Each part runs in a
process of its own for each database (``benchmarks.part``), measures by ``benchmarks.timing`` and reports in the words
of ``benchmarks.report``.
"""
