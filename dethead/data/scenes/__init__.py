"""Drawn street scenes with cars, pedestrians and trucks: a data set that needs no download."""

from dethead.data.scenes.scene import CATEGORIES, Scene, SceneObject, draw_scene
from dethead.data.scenes.writer import SceneCounts, draw_scenes

__all__ = ["CATEGORIES", "Scene", "SceneCounts", "SceneObject", "draw_scene", "draw_scenes"]
