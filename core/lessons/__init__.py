"""Lessons: files with a hole that a student fills, and the judge who says what is still wrong.

`names` lists them. Each has a module of its own with its `densedet.core.lessons.task.Lesson`, and a text in
``templates`` that `densedet new lesson` writes. `judging` looks at a solution, `process` does so in a process
of its own, whose time is limited.
"""
