"""The HTTP of an opening: what is asked, where a redirect leads, what a refusal says, what would help."""
