"""Retention: attempt folders of runs that ended long ago, or that are too many, are taken away."""

from collections.abc import Container

from crewd.host.attempt_folder import remove_folder, run_folders


def clean(root: str, active: Container[str], before: float, bytes_max: int) -> int:
    """Remove what was last written before the wall time `before`, then the oldest beyond `bytes_max`; how many.

    Folders of runs that have not ended are never touched.
    """
    removed, total = 0, 0
    folders = [each for each in run_folders(root) if each.name not in active]
    # The newest are kept first.
    for folder in sorted(folders, key=lambda each: -each.changed_at):
        total += folder.bytes
        # Asked again: sizing many folders takes its time, and meanwhile a run may have been redriven.
        if (folder.changed_at < before or total > bytes_max) and folder.name not in active:
            remove_folder(f"{root}/{folder.name}")
            removed += 1
    return removed
