"""The command `lochws`, made of public names of the package alone; needs the extra ``cli``."""
