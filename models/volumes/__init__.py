"""What families with feature volumes share: encoder, rendering, losses, diagnostics."""
