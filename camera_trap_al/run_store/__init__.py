"""A run on disk: `RunStore`, its database with one module for each table, and its files."""

from camera_trap_al.run_store.store import REBUILT, CheckpointManager, RunStore

__all__ = ["REBUILT", "CheckpointManager", "RunStore"]
