"""The installed command ``bevstack``: one module for each verb, which calls the library."""
