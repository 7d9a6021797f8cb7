"""The command `lochws`, built only on the package's public interface; needs the extra ``cli``."""
