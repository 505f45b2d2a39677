"""The viewer's window: panels, path editor, 3D scene."""
