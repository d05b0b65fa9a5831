"""Belharbi, Hérault, Chatelain, Adam (2018), networks that learn the structure of their outputs."""
