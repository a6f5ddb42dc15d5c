"""Recipes that ship with densedet."""
