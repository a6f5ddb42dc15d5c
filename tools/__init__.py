"""Thin mains: train evaluate predict compare convert export show check new benchmark."""
