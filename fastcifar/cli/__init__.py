"""The commands, one file each: their options and what they print. The work is done in the other packages."""
