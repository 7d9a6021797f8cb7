"""Ready-made handlers for apps, built on the public interface only."""
