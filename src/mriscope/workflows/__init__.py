"""The workflows, a module for each command: where the packages below meet, and the only place where they do."""
