"""The real agent command lines, against a model server of our own. conftest.py says how to run them."""
