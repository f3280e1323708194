"""Tests of the nouns: what every reader outside relies on in their written form."""
