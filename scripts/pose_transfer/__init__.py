"""Judge transferred poses on the embedded videos, whose true views can be rendered."""
