"""Old name of `data.scenes.views`, kept for existing scripts and notebooks."""

from data.scenes.views import Job, choose_objects, data_job

__all__ = ["Job", "choose_objects", "data_job"]
