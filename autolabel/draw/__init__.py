"""Pictures: contact sheets, explanations, attention maps."""
