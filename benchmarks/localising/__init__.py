"""Parts of the localisation benchmark: tasks whose answer lies in a known place, networks, measures of maps, tables."""
