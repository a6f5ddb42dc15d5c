"""From YAML to checked values: loading, merging, checking, signatures, sections, wiring, plug-in loading."""
