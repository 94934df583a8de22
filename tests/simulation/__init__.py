"""The pipeline beside a model of it, in virtual time: who goes on, and what fails, is drawn by lot.

A history is made of its seed alone: `pytest tests/simulation --seed N` repeats one.
"""
