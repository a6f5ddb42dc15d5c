"""Built-in launchers; see COMPONENTS for the list."""

COMPONENTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "launcher",
        "local",
        "densedet.plugins.launchers.local:LocalLauncher",
        "processes of this machine, a GPU for each where there are any",
    ),
    (
        "launcher",
        "slurm",
        "densedet.plugins.launchers.slurm:SlurmLauncher",
        "jobs of a Slurm cluster, by submitit",
    ),
    (
        "launcher",
        "ray",
        "densedet.plugins.launchers.ray:RayLauncher",
        "tasks of a Ray cluster, or of Ray on this machine",
    ),
)
"""(kind, name, "module:attribute", one-line summary), registered by `densedet.plugins`."""
