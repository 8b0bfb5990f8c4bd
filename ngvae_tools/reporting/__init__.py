"""Renders analysis records and training runs as terminal tables, a page, figures and JSON.

Everything here takes `Sources` and returns a value; nothing prints. rich, matplotlib and jinja2 load where
they are used.
"""
