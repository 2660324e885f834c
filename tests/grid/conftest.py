"""The fixtures that tests of grids share."""

from support.grid import whole as whole
