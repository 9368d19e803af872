"""The installed command ``bevstack``: one module a verb, no logic of its own."""
