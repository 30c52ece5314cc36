"""Recipes of published models, with the accuracy that their authors claim and the protocol they used."""
