"""Pieces that recipes are based on: data and schedules."""
