"""The web console: pages rendered here, kept fresh by two small scripts; nothing is loaded from elsewhere."""
