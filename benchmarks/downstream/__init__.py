"""Downstream benchmarks by lmms-eval: ``mmzero eval MODEL --suite paper``.

lmms-eval runs in an environment of its own (``make lmms-eval``), fed by
:mod:`benchmarks.downstream.driver`, and asks an OpenAI-compatible endpoint. What it logs is
graded here, by rules first and by a judge where one is named.
"""
