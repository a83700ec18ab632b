"""A laboratory: real agents and a real cloud as processes of their own, networks between them, and checkers."""
