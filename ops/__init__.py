"""Native sources of the operators, installed as `bevstack._ops_sources`."""
