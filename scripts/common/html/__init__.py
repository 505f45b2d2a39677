"""What the pages that programs write share: templates, style, embedded pictures, wording of numbers."""
