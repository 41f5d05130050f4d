"""Where the parts meet, and the only place where they do: run, judge, explain, demonstrate."""
